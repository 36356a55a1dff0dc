package exposure

import "testing"

func TestForkChild(t *testing.T) { testAttack(t, forkChild) }
