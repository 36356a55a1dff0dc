package audit

import "testing"

func TestIOUring(t *testing.T) { testAttack(t, ioUring) }
