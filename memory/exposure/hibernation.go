package exposure

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// hibernation would write all of RAM to disk.
var hibernation = Avenue{
	Name: "hibernation", Attack: attackHibernation,
	About: "asks whether the kernel would write an image of all RAM to disk",
}

// attackHibernation makes no image: that stops every process and device of the
// host. What the kernel would do is no evidence of what is in an image, and
// one process with secret memory keeps the whole host from hibernating, the
// control's too. So there is nothing to find here, either way; what is known
// is said, and `offmap limits` shows that secret memory is what makes the
// difference.
func attackHibernation(context.Context, Target) (Finding, error) {
	state, err := hibernationState()
	if err != nil {
		return Finding{}, err
	}
	return Finding{}, unavailable("no image of RAM is made in an audit; %s: see offmap limits --only no-hibernation", state)
}

// hibernationState says what the kernel would do.
func hibernationState() (string, error) {
	// "[disabled]", or the ways to power off (power/hibernate.c).
	text, err := os.ReadFile("/sys/power/disk")
	if errors.Is(err, os.ErrNotExist) {
		return "this kernel is built without CONFIG_HIBERNATION", nil
	}
	if err != nil {
		return "", err
	}
	if strings.TrimSpace(string(text)) != "[disabled]" {
		return "the kernel would make one now", nil
	}
	// To open it prepares the host for hibernation, unless it is refused.
	fd, err := unix.Open("/dev/snapshot", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
		return "", errors.New("hibernation is disabled, and /dev/snapshot can be opened")
	}
	return fmt.Sprintf("the kernel would refuse one now (%v), as it does while any process has secret memory, under lockdown and with nohibernate", err), nil
}
