package memtest

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// VmFlags returns the flags of the mapping of this process that begins at addr,
// by their two letters: VmFlags of /proc/self/smaps, proc_pid_smaps(5).
func VmFlags(t testing.TB, addr uintptr) []string {
	t.Helper()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	_, mapping, found := strings.Cut("\n"+string(smaps), fmt.Sprintf("\n%08x-", addr))
	_, flags, ok := strings.Cut(mapping, "\nVmFlags:")
	if !found || !ok {
		t.Fatalf("no mapping begins at %#x, or /proc/self/smaps has no VmFlags", addr)
	}
	flags, _, _ = strings.Cut(flags, "\n")
	return strings.Fields(flags)
}

// CheckSecluded wants the mapping at addr out of core dumps, children and huge
// pages. The last doesn't matter to a PFNMAP mapping, whose pages khugepaged can't take.
func CheckSecluded(t testing.TB, what string, addr uintptr) {
	t.Helper()
	have := map[string]bool{}
	for _, f := range VmFlags(t, addr) {
		have[f] = true
	}
	_, err := os.Stat("/sys/kernel/mm/transparent_hugepage")
	for _, f := range []struct {
		flag, means string
		known       bool
	}{
		{"dd", "MADV_DONTDUMP", true}, {"dc", "MADV_DONTFORK", true}, {"nh", "MADV_NOHUGEPAGE", err == nil && !have["pf"]},
	} {
		if f.known && !have[f.flag] {
			t.Errorf("%s isn't %s: no %q in its VmFlags", what, f.means, f.flag)
		}
	}
}
