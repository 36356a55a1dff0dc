package e2e

import (
	"fmt"
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
head -n 1000 > /tmp/input
dmesg | grep -c -i 'lockup|stall|overrun'
echo "the file:"; cat /tmp/input; echo; exit 5`
	cmd := command(t, 2*patience, "./offmap", append([]string{"run"}, linux("memfd", count)...)...)
	cmd.Stdin = strings.NewReader(input.String())
	start := time.Now()
	out, _ := cmd.CombinedOutput()
	console := strings.ReplaceAll(string(out), "\r\n", "\n")
	t.Logf("%d bytes in %v", input.Len(), time.Since(start))
	_, got, _ := strings.Cut(console, "\n0\nthe file:\n")
	if code := cmd.ProcessState.ExitCode(); code != 5 || !strings.HasPrefix(got, input.String()) {
		t.Errorf("exit code %d; the guest has something else than it was sent:\n%s", code, console[max(0, len(console)-3000):])
	}
}
