package userland

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"time"

	"offmap/guest/protocol"
)

// exitPort is where exits writes. Programs write POST codes there and Linux
// itself writes it to wait a microsecond (Documentation/admin-guide/
// kernel-parameters.txt, io_delay), so every VMM takes writes to it, in its
// userspace, and does nothing.
const exitPort = 0x80

// exits times VM exits: writes of a byte to an I/O port, each of which goes
// all the way to the VMM's userspace and back. It prints a line before and one
// after (package protocol), so that a reader can compare the guest's clock with
// the host's.
func exits(args []string) error {
	fs := flag.NewFlagSet("exits", flag.ContinueOnError)
	n := fs.Int("n", 100_000, "how many")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() != 0 || *n < 1 || *n > protocol.MaxExits {
		return usage("exits [-n NUMBER]")
	}
	runtime.LockOSThread() // the permission is one thread's
	defer runtime.UnlockOSThread()
	if err := ioperm(exitPort, true); err != nil {
		return err
	}
	fmt.Println(protocol.ExitsStart(*n))
	// The line's way out takes exits too.
	drain(os.Stdout)
	start := time.Now()
	for range *n {
		outb(exitPort, 0)
	}
	took := time.Since(start)
	fmt.Println(protocol.ExitsLine(*n, took))
	return ioperm(exitPort, false)
}
