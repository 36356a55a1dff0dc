package userland

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"time"

	"offmap/guest/protocol"
)

// exitPort is the port that exits writes to. Firmware writes POST codes to it, and
// Linux writes to it to wait a microsecond (Documentation/admin-guide/
// kernel-parameters.txt, io_delay). So in every VMM a write to it exits to userspace
// and does nothing.
const exitPort = 0x80

// exits times VM exits. It writes bytes to an I/O port, and each write goes to the
// VMM's userspace and back. It prints a line before and a line after (package
// protocol), so that a reader can compare the guest's clock with the host's.
func exits(args []string) error {
	fs := flag.NewFlagSet("exits", flag.ContinueOnError)
	n := fs.Int("n", 100_000, "how many")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() != 0 || *n < 1 || *n > protocol.MaxExits {
		return usage("exits [-n NUMBER]")
	}
	runtime.LockOSThread() // the permission belongs to the thread
	defer runtime.UnlockOSThread()
	if err := ioperm(exitPort, true); err != nil {
		return err
	}
	fmt.Println(protocol.ExitsStart(*n))
	// Drain first, because sending the line takes exits too.
	drain(os.Stdout)
	start := time.Now()
	for range *n {
		outb(exitPort, 0)
	}
	took := time.Since(start)
	fmt.Println(protocol.ExitsLine(*n, took))
	return ioperm(exitPort, false)
}
