package jail

import (
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"

	"offmap/internal/process/signals"
)

// numbers is how many system calls have a name here. Later ones have none.
const numbers = 512

// Flags of an action, SA_SIGINFO and so on (sigaction(2), include/uapi/asm-generic/signal.h).
const (
	siginfo      = 0x4
	restorer     = 0x0400_0000
	onStack      = 0x0800_0000
	noDefer      = 0x4000_0000
	resetHandler = 0x8000_0000
)

// What trap writes, and with what. All is made before, as trap can't allocate.
var (
	callNames   [numbers + 1]string // by number; the last is that of all others
	message     [3]string
	trapAddress uintptr
)

// nameRefused has this process say which system call the filter refused, before it ends by
// SIGSYS. Go's runtime would print the number, and the stacks of all goroutines.
func nameRefused() error {
	for i := range callNames {
		callNames[i] = "of an unknown number"
		if name := arch.X86_64.SyscallNumbers[i]; name != "" {
			callNames[i] = name
		}
	}
	message[0] = "offmap: the jail ended this process at a system call that no guest needs: "
	message[2] = "\n(a bug in offmap, or a guest that has taken it over; --jail=off runs without the jail)\n"
	// The kernel wants a restorer. As trap doesn't return, it isn't used.
	return signals.Set(unix.SIGSYS, signals.Action{trapAddress, siginfo | restorer | onStack | noDefer | resetHandler, trapAddress, 0})
}
