package e2e

import (
	"strings"
	"testing"
)

// placing is a way in which a guest has its hidden RAM, and its number of vCPUs.
type placing struct{ attach, cpus string }

func (p placing) String() string { return p.attach + "-" + p.cpus }

// args are the arguments of `offmap run` for it.
func (p placing) args() []string {
	args := []string{"--backend", "secret", "--attach", p.attach, "--cpus", p.cpus}
	if p.attach == "window" {
		args = append(args, "--window", "32M")
	}
	return args
}

// placings are those that a test of devices is to be made for on this kernel: with
// -soak all, else one half on the oldest kernel, and the other on the newest.
func placings(t *testing.T) []placing {
	t.Helper()
	all := []placing{{"bridge", "1"}, {"window", "2"}, {"bridge", "2"}, {"window", "1"}}
	switch release := kernelRelease(t); {
	case *soak > 0:
		return all
	case strings.HasPrefix(release, "6.1."):
		return all[:2]
	case strings.HasPrefix(release, "7."):
		return all[2:]
	}
	t.Skip("skipped: the oldest kernel and the newest are enough")
	return nil
}
