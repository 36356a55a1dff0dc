package audit

import (
	"testing"
)

func TestProcMem(t *testing.T) { testAttack(t, procMem) }
