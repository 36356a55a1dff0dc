package exposure

import "testing"

func TestKernelRead(t *testing.T) {
	testFinds(t, kernelRead, asExposed)
}
