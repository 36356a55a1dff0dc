package userland

import (
	"bufio"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"offmap/audit/canary"
	"offmap/guest/protocol"
)

// maxCanaryPages is how many pages canary takes if it isn't told, in 4 KiB:
// enough to be found whatever happens to a few, and little against any guest.
const maxCanaryPages = 4096

// plantCanary plants a canary of its own making in pages of anonymous memory, for
// the host to look for, and prints it masked. With -hold it goes on as package
// protocol has it.
func plantCanary(args []string) error {
	fs := flag.NewFlagSet("canary", flag.ContinueOnError)
	pages := fs.Int("pages", 0, "pages of 4 KiB to plant in (default 4096, or a quarter of free memory if that is less)")
	hold := fs.Bool("hold", false, "wait for a line of input, then verify")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *pages == 0 {
		var si unix.Sysinfo_t
		if err := unix.Sysinfo(&si); err != nil {
			return fmt.Errorf("sysinfo: %w", err)
		}
		*pages = int(min(maxCanaryPages, si.Freeram*uint64(si.Unit)/pageSize/4))
	}
	if *pages < 1 || *pages > 1<<30 {
		return fmt.Errorf("can't plant in %d pages", *pages)
	}
	mem, err := unix.Mmap(-1, 0, *pages*pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("mmap %d pages: %w", *pages, err)
	}
	c, err := canary.New()
	if err != nil {
		return err
	}
	// A place for each page, in cache lines from its start: not the same one
	// everywhere, so that nothing depends on where in a page it is.
	lines := make([]uint8, *pages)
	place := func(page int) []byte { return mem[page*pageSize+int(lines[page])*64:][:canary.Size] }
	for i := range lines {
		lines[i] = uint8(rand.IntN(pageSize / 64))
		c.Plant(place(i))
	}
	fmt.Println(protocol.CanaryLine(c.String(), *pages))
	if !*hold {
		return nil
	}
	fmt.Println(protocol.CanaryPlanted)
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return fmt.Errorf("wait for a line of input: %w", err)
	}
	if strings.TrimSpace(line) == strings.TrimSpace(protocol.CanaryReset) {
		return os.NewSyscallError("reboot", unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART))
	}
	held := 0
	for i := range lines {
		if c.In(place(i)) {
			held++
		}
	}
	fmt.Println(protocol.CanaryHeldLine(held, *pages))
	if held != *pages {
		return exitStatus(1)
	}
	return nil
}

// pageSize is x86-64's, in bytes.
const pageSize = 4096
