package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain looks at the lab when all guests are gone: no process, no temporary
// file of theirs. That the module unloads, the lab checks itself.
func TestMain(m *testing.M) {
	if os.Getenv(seenEnv) != "" {
		os.Exit(tell())
	}
	if dir := os.Getenv(cellEnv); dir != "" {
		os.Exit(inCell(dir))
	}
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(play(role, os.Args[1:]))
	}
	code := m.Run()
	if *inside {
		for _, what := range left() {
			fmt.Println("left behind:", what)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

func left() (found []string) {
	for _, pid := range scrubbers(0) {
		found = append(found, fmt.Sprintf("scrubber, process %d", pid))
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		cmdline, _ := os.ReadFile(dir + "/cmdline")
		if strings.HasPrefix(string(cmdline), "./offmap") {
			found = append(found, fmt.Sprintf("process %s: %q", filepath.Base(dir), cmdline))
		}
	}
	files, _ := filepath.Glob(filepath.Join(os.TempDir(), "*offmap*"))
	return append(found, files...)
}
