package userland

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"sync"
	"time"
)

// exitPort is where exits writes. Programs write POST codes there and Linux
// itself writes it to wait a microsecond (Documentation/admin-guide/
// kernel-parameters.txt, io_delay), so every VMM takes writes to it, in its
// userspace, and does nothing.
const exitPort = 0x80

// maxExits keeps the whole time below what a line may say.
const maxExits = 100_000_000

// exits times VM exits: writes of a byte to an I/O port, each of which goes
// all the way to the VMM's userspace and back. It prints two lines,
//
//	offmap: N exits from here
//	offmap: N exits in T ns
//
// so that somebody who reads them can hold the guest's clock against his own.
func exits(args []string) error {
	fs := flag.NewFlagSet("exits", flag.ContinueOnError)
	n := fs.Int("n", 100_000, "how many")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() != 0 || *n < 1 || *n > maxExits {
		return usage("exits [-n NUMBER]")
	}
	runtime.LockOSThread() // the permission is one thread's
	defer runtime.UnlockOSThread()
	if err := ioperm(exitPort, true); err != nil {
		return err
	}
	fmt.Println(ExitsStart(*n))
	// The line's way out takes exits too.
	drain(os.Stdout)
	start := time.Now()
	for range *n {
		outb(exitPort, 0)
	}
	took := time.Since(start)
	fmt.Printf("offmap: %d exits in %d ns\n", *n, took.Nanoseconds())
	return ioperm(exitPort, false)
}

// ExitsStart is the line that the command exits prints before n exits.
func ExitsStart(n int) string { return fmt.Sprintf("offmap: %d exits from here", n) }

var exitsLine = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^offmap: ([1-9][0-9]{0,8}) exits in ([1-9][0-9]{0,14}) ns$`)
})

// ParseExits reads the line that the command exits prints after its exits,
// without its end. Any program of the guest's can print one.
func ParseExits(line string) (n int, took time.Duration, ok bool) {
	m := exitsLine().FindStringSubmatch(line)
	if m == nil {
		return 0, 0, false
	}
	// Both fit: the pattern counts the digits.
	n, _ = strconv.Atoi(m[1])
	ns, _ := strconv.ParseInt(m[2], 10, 64)
	return n, time.Duration(ns), n <= maxExits
}
