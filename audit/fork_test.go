package audit

import "testing"

func TestForkChild(t *testing.T) { testAttack(t, forkChild) }
