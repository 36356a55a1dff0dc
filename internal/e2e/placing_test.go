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
// -soak all, else one on the oldest kernel, and another one on the newest.
func placings(t *testing.T) []placing {
	t.Helper()
	notInTheMiddle(t)
	all := []placing{{"bridge", "2"}, {"window", "1"}, {"bridge", "1"}, {"window", "2"}}
	switch {
	case *soak > 0:
		return all
	case kernelIs(t, "6.1"):
		return all[:1]
	}
	return all[1:2]
}

// notInTheMiddle skips what the oldest kernel and the newest are enough for, unless
// there is time.
func notInTheMiddle(t *testing.T) {
	t.Helper()
	if kernelIs(t, middle) && *soak == 0 {
		t.Skip("skipped: the oldest kernel and the newest are enough")
	}
}

// oneIsEnough skips what takes long and one kernel is enough for, unless there is time.
func oneIsEnough(t *testing.T, series string) {
	t.Helper()
	if *soak == 0 {
		onlyOn(t, series)
	}
}

// kernelIs reports whether the kernel is of a series, or of one that begins so.
func kernelIs(t *testing.T, series string) bool {
	t.Helper()
	return strings.HasPrefix(kernelRelease(t), series+".")
}
