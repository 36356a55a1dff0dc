package abitest

import (
	"maps"
	"os/exec"
	"testing"
)

// TestAsk compares with values that C and the machine's ABI fix.
func TestAsk(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("SKIPPED: no C compiler")
	}
	const include = "#include <limits.h>\nstruct pair { char a; long long b; };\n#define OWN 1\n"
	entries := []Entry{
		{C: "CHAR_BIT"},
		{C: "ULLONG_MAX"},
		{C: "offsetof(struct pair, b)"},
		{C: "OWN", Macro: "OWN"},
		{C: "NOT_THERE", Macro: "NOT_THERE"},
	}
	got, err := ask(cc, t.TempDir(), source(include, entries))
	if err != nil {
		t.Fatal(err)
	}
	if want := map[int]uint64{0: 8, 1: 1<<64 - 1, 2: 8, 3: 1}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if _, err := ask(cc, t.TempDir(), source(include, []Entry{{C: "NOT_THERE"}})); err == nil {
		t.Error("a name that the headers don't have was compiled")
	}
}
