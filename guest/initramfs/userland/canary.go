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

// maxCanaryPages is the default number of canary's pages, of 4 KiB each. It is
// enough that some are found if a few are lost, and small for any guest.
const maxCanaryPages = 4096

// plantCanary makes a canary, plants it in pages of anonymous memory, and prints it
// masked, so that the host can search for it. With -file it also sends the pages to a
// disk or a share and back. With -hold it then follows package protocol.
func plantCanary(args []string) error {
	fs := flag.NewFlagSet("canary", flag.ContinueOnError)
	pages := fs.Int("pages", 0, "pages of 4 KiB to plant in (default 4096, or a quarter of free memory if that is less)")
	hold := fs.Bool("hold", false, "wait for a line of input, then verify")
	var files []string
	fs.Func("file", "write the pages to `FILE` as well, such as /dev/vda, and read them back", func(name string) error {
		files = append(files, name)
		return nil
	})
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
	// The canary's place in each page, in cache lines from the page's start.
	// It is random, so that no result depends on one place.
	lines := make([]uint8, *pages)
	place := func(page int) []byte { return mem[page*pageSize+int(lines[page])*64:][:canary.Size] }
	for i := range lines {
		lines[i] = uint8(rand.IntN(pageSize / 64))
		c.Plant(place(i))
	}
	for _, name := range files {
		if err := thereAndBack(name, mem); err != nil {
			return err
		}
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

// pageSize is the page size of x86-64, in bytes.
const pageSize = 4096

// thereAndBack writes memory to the start of a file, drops it from the guest's own page
// cache, and reads it from the file again.
func thereAndBack(name string, mem []byte) error {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(mem, 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return fmt.Errorf("fadvise of %s: %w", name, err)
	}
	clear(mem)
	if _, err := f.ReadAt(mem, 0); err != nil {
		return err
	}
	return f.Close()
}
