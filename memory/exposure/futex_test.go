package exposure

import "testing"

func TestFutex(t *testing.T) { testAttack(t, futex) }
