package exposure

import "testing"

func TestDevMem(t *testing.T) { testFinds(t, devMem, asExposed) }
