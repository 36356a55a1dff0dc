package exposure

import "testing"

func TestPtracePeek(t *testing.T) { testAttack(t, ptracePeek) }
