package audit

import "testing"

func TestVmsplice(t *testing.T) { testAttack(t, vmsplice) }
