package jail

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"offmap/vmm/jail/jailtest"
)

// A test's child is this program again, with the name of an attempt. It makes the attempt
// in the jail, if jailEnv is set too.
const (
	attemptEnv = "OFFMAP_TEST_ATTEMPT"
	jailEnv    = "OFFMAP_TEST_JAIL"
)

func TestMain(m *testing.M) {
	name := os.Getenv(attemptEnv)
	if name == "" {
		os.Exit(m.Run())
	}
	attempt := jailtest.All()[name]
	fd, err := attempt.Prepare()
	if err == nil && os.Getenv(jailEnv) != "" {
		_, err = Enter(Rights{Read: []string{os.Getenv(jailtest.Environment)}})
	}
	if err != nil {
		fmt.Println("prepare:", err)
		os.Exit(1)
	}
	attempt.Make(fd)
}

// TestAttempts makes each attempt in the jail and, as a control, outside of it.
func TestAttempts(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, a := range jailtest.All() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			free, freeErr := attempt(t, name, dir)
			if strings.Contains(free, "prepare:") {
				t.Skipf("SKIPPED: %s", free)
			}
			jailed, jailedErr := attempt(t, name, dir, jailEnv+"=1")
			t.Logf("outside: %q, in the jail: %q", free, jailed)
			if err := a.Check(free, freeErr, jailed, jailedErr); err != nil {
				t.Error(err)
			}
		})
	}
}

func attempt(t *testing.T, name, dir string, env ...string) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(append(os.Environ(), attemptEnv+"="+name, jailtest.Environment+"="+dir, "GORACE=atexit_sleep_ms=0"), env...)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}
