package exposure

import "testing"

func TestIOUring(t *testing.T) { testAttack(t, ioUring) }
