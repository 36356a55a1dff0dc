// Package abitest holds what a package knows of a C interface, such as the
// kernel's, against the interface's own headers. It is for tests.
package abitest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// HeadersVariable names the environment variable with an include directory to
// look in before the system's, which may be too old for the newest entries.
const HeadersVariable = "OFFMAP_UAPI"

// Entry is one thing to compare.
type Entry struct {
	// C is an expression of an integer type: a constant's name, sizeof,
	// offsetof.
	C string
	// Want is its value in Go.
	Want uint64
	// Macro is defined in headers that have the entry; "" is one that all have.
	Macro string
}

// Compare compiles a C program that begins with include, lines such as
// "#include <linux/kvm.h>\n" or a header's own text, and prints each entry's
// value. It fails the test for each that differs, and says which are not in
// these headers. Without a C compiler it skips the test.
func Compare(t *testing.T, include string, entries []Entry) {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("SKIPPED: no C compiler (apt install gcc libc6-dev), so the ABI is not compared with its headers")
	}
	got, err := ask(cc, t.TempDir(), source(include, entries))
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range entries {
		switch value, ok := got[i]; {
		case !ok:
			t.Logf("NOT COMPARED: %s is not in these headers (%s names newer ones)", e.C, HeadersVariable)
		case value != e.Want:
			t.Errorf("%s is %#x in the headers, %#x here", e.C, value, e.Want)
		}
	}
}

// source is the program. It prints each entry's index and value.
func source(include string, entries []Entry) string {
	var b strings.Builder
	b.WriteString("#include <stddef.h>\n#include <stdio.h>\n" + include)
	b.WriteString("int main(void) {\n")
	for i, e := range entries {
		print := fmt.Sprintf("printf(\"%d %%llu\\n\", (unsigned long long)(%s));\n", i, e.C)
		if e.Macro != "" {
			print = "#ifdef " + e.Macro + "\n" + print + "#endif\n"
		}
		b.WriteString(print)
	}
	b.WriteString("return 0; }\n")
	return b.String()
}

// ask compiles the program in dir, runs it and returns the values by index.
func ask(cc, dir, source string) (map[int]uint64, error) {
	program := filepath.Join(dir, "abi")
	args := []string{"-x", "c", "-o", program, "-"}
	if include := os.Getenv(HeadersVariable); include != "" {
		args = append([]string{"-isystem", include}, args...)
	}
	cmd := exec.Command(cc, args...)
	cmd.Stdin = strings.NewReader(source)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", cc, err, out)
	}
	out, err := exec.Command(program).Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	values := map[int]uint64{}
	for line := range strings.Lines(string(out)) {
		var i int
		var value uint64
		if _, err := fmt.Sscanf(line, "%d %d", &i, &value); err != nil {
			return nil, fmt.Errorf("the program said %q: %w", line, err)
		}
		values[i] = value
	}
	return values, nil
}
