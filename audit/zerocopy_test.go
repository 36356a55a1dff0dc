package audit

import "testing"

func TestZerocopy(t *testing.T) { testAttack(t, zerocopy) }
