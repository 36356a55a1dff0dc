package probe

import (
	"os"
	"strings"
	"testing"
)

// TestCPUID compares with what the kernel says.
func TestCPUID(t *testing.T) {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	_, rest, _ := strings.Cut(string(text), "model name\t: ")
	model, rest, _ := strings.Cut(rest, "\n")
	if strings.TrimSpace(model) != brand() {
		t.Errorf("model %q, and the kernel says %q", brand(), model)
	}
	_, rest, _ = strings.Cut(rest, "flags\t\t: ")
	flags, _, _ := strings.Cut(rest, "\n")
	if virtual := strings.Contains(" "+flags+" ", " hypervisor "); virtual != (len(hypervisor()) == 12) {
		t.Errorf("hypervisor %q, and the kernel has the flags %q", hypervisor(), flags)
	}
}
