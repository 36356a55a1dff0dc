package audit

import (
	"os"
	"path/filepath"
	"testing"

	"offmap/memory"
)

// TestKSM: only anonymous memory is ever merged. The settings are as before.
func TestKSM(t *testing.T) {
	settings := func() (all string) {
		for _, name := range []string{"run", "sleep_millisecs", "pages_to_scan", "smart_scan", "advisor_mode"} {
			text, _ := os.ReadFile(filepath.Join(ksmDir, name))
			all += name + " " + string(text)
		}
		return all
	}
	before := settings()
	testFinds(t, ksm, expect{
		memory.Anon:  true,
		memory.Memfd: false, memory.Hugetlb: false, memory.Secret: false,
	})
	if after := settings(); after != before {
		t.Errorf("settings of KSM before:\n%s\nand after:\n%s", before, after)
	}
}
