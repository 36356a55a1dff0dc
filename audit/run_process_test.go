package audit

import (
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestInTime holds that a guest which doesn't get on is ended, and that this is
// said; and that one which does is left alone.
func TestInTime(t *testing.T) {
	defer func(d time.Duration) { guestTime = d }(guestTime)
	for _, c := range []struct {
		time    time.Duration
		command string
		want    string
	}{
		{50 * time.Millisecond, "100", "killed, since it took more than 50ms"},
		{time.Minute, "0", ""},
	} {
		guestTime = c.time
		g := &runProcess{cmd: exec.Command("sleep", c.command)}
		if err := g.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		err := g.inTime(g.cmd.Wait)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%v for sleep %s: %v, want %q", c.time, c.command, err, c.want)
		}
	}
}
