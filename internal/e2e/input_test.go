package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPipedInput pipes more into a guest than any buffer on the way holds, and
// longer than the guest takes to read any of it. All of it arrives, and no
// watchdog of the guest's barks meanwhile.
func TestPipedInput(t *testing.T) {
	needInside(t)
	onlyOn(t, "6.12")
	const lines = 1000 // 73 KiB: Linux's buffers hold 64
	var input strings.Builder
	for i := range lines {
		fmt.Fprintf(&input, "%08d and what else there is to say about it: nothing, but at length\n", i)
	}
	const count = `sleep 30
head -n 1000 > /mnt/out/input
dmesg | grep -c -i 'lockup|stall|overrun' > /mnt/out/log; exit 5`
	dir := t.TempDir()
	cmd := command(t, 2*patience, "./offmap", append([]string{"run"}, linux("memfd", count, "--share", dir+"=out,rw")...)...)
	cmd.Stdin = strings.NewReader(input.String())
	start := time.Now()
	out, _ := cmd.CombinedOutput()
	t.Logf("%d bytes in %v", input.Len(), time.Since(start))
	if code := cmd.ProcessState.ExitCode(); code != 5 {
		t.Errorf("exit code %d, want 5:\n%s", code, out)
	}
	for file, want := range map[string]string{"input": input.String(), "log": "0\n"} {
		if got, err := os.ReadFile(filepath.Join(dir, file)); err != nil || string(got) != want {
			t.Errorf("%s: %v, %d bytes, want %d; it ends with %q", file, err, len(got), len(want), got[max(0, len(got)-300):])
		}
	}
}
