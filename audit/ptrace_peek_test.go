package audit

import "testing"

func TestPtracePeek(t *testing.T) { testAttack(t, ptracePeek) }
