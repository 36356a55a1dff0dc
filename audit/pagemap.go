package audit

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A pagemapEntry says where a page of a process is,
// Documentation/admin-guide/mm/pagemap.rst.
type pagemapEntry uint64

func (e pagemapEntry) present() bool { return e>>63 != 0 }
func (e pagemapEntry) swapped() bool { return e>>62&1 != 0 }

// frame is the page frame number of a page that is present. It reads as 0 without
// CAP_SYS_ADMIN.
func (e pagemapEntry) frame() uint64 { return uint64(e) & (1<<55 - 1) }

// A place identifies a page: by its address in the target, or by its offset in a
// file of the target.
type place struct {
	file uint64 // the file's inode, 0 for addresses
	at   uint64
}

// frames finds the page frames of the target's memory. The target's page tables
// don't show all pages of its files in memory: pages that the VMM itself hasn't
// touched are missing, and /proc/PID/pagemap doesn't show the bridge's view. So
// frames takes the files' descriptors, maps them here, and touches the pages that
// exist. It may list such a page at two places.
func (t Target) frames(ctx context.Context) (map[place]uint64, error) {
	m, err := openPagemap(t.PID)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	areas, err := t.areas()
	if err != nil {
		return nil, err
	}
	frames := map[place]uint64{}
	for _, a := range areas {
		err := m.each(ctx, a, func(addr uint64, e pagemapEntry) {
			if e.present() {
				frames[place{at: addr}] = e.frame()
			}
		})
		if err != nil {
			return nil, err
		}
	}
	err = t.eachMemory(func(file uint64, mem []byte) error {
		return fileFrames(ctx, file, mem, frames)
	})
	if err != nil {
		return nil, err
	}
	for _, frame := range frames {
		if frame == 0 {
			return nil, errNoFrames
		}
	}
	return frames, nil
}

// secretName is how /proc shows memory of memfd_secret(2).
const secretName = "/secretmem (deleted)"

// isMemory reports whether a file is memory and nothing else, by its name in
// /proc: a memfd, a guest_memfd or secret memory.
func isMemory(name string) bool {
	return name == secretName || strings.HasPrefix(name, "/memfd:") || strings.Contains(name, "[kvm-gmem]")
}

// isHuge reports whether a file has huge pages. mincore(2) doesn't say which of
// those exist, but their owner's page tables do.
func isHuge(fd int) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(fd, &st) == nil && st.Type == unix.HUGETLBFS_MAGIC
}

// eachMemory takes the target's files in memory, except those of huge pages, maps
// each, and calls use with its inode number and the mapping. It does so twice for
// a file that is open twice.
func (t Target) eachMemory(use func(file uint64, mem []byte) error) error {
	return t.stealAll(func(name string, fd int) error {
		var st unix.Stat_t
		if !isMemory(name) || isHuge(fd) {
			return nil
		}
		if err := unix.Fstat(fd, &st); err != nil || st.Size == 0 {
			return err
		}
		mem, err := unix.Mmap(fd, 0, int(wholePages(st.Size)), unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return fmt.Errorf("mmap of the VMM's %s: %w", name, err)
		}
		defer unix.Munmap(mem)
		return use(st.Ino, mem)
	})
}

// fileFrames adds the page frames of a file that is mapped here.
func fileFrames(ctx context.Context, file uint64, mem []byte, frames map[place]uint64) error {
	touch := func(run []byte) error {
		return guarded(func() {
			for i := 0; i < len(run); i += pageSize {
				touched ^= run[i]
			}
		})
	}
	if err := eachResident(mem, make([]byte, len(mem)/pageSize), touch); err != nil {
		return err
	}
	own, err := framesOf(ctx, mem)
	for at, frame := range own {
		frames[place{file, at}] = frame
	}
	return err
}

// framesOf lists the page frames of memory of this process, by offset.
func framesOf(ctx context.Context, mem []byte) (map[uint64]uint64, error) {
	m, err := openPagemap(os.Getpid())
	if err != nil {
		return nil, err
	}
	defer m.Close()
	frames := map[uint64]uint64{}
	start := addressOf(mem)
	return frames, m.each(ctx, area{Start: start, End: start + uint64(len(mem))}, func(addr uint64, e pagemapEntry) {
		if e.present() {
			frames[addr-start] = e.frame()
		}
	})
}

// touched keeps the compiler from leaving out the reads that touch pages.
//
//lint:ignore U1000 it is written only, for that
var touched byte

// distinct lists page frames in ascending order, each once. The kernel's page
// of zeros, which many share, counts like any other.
func distinct(frames map[place]uint64) []uint64 {
	var list []uint64
	for _, f := range frames {
		list = append(list, f)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// pagemap is a process's /proc/PID/pagemap.
type pagemap struct{ *os.File }

func openPagemap(pid int) (pagemap, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	return pagemap{f}, orDenied(err)
}

// each calls use with the entries of an area, in order.
func (m pagemap) each(ctx context.Context, a area, use func(addr uint64, e pagemapEntry)) error {
	var buf [64 << 10]byte
	for addr := a.Start; addr < a.End; {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := buf[:min(uint64(len(buf)), (a.End-addr)/pageSize*8)]
		n, err := m.ReadAt(p, int64(addr/pageSize*8))
		if err == io.EOF && n == 0 { // the vsyscall page, and processes that end
			return nil
		}
		if err != nil && err != io.EOF {
			return err
		}
		for ; len(p) >= 8 && n >= 8; p, n = p[8:], n-8 {
			use(addr, pagemapEntry(binary.LittleEndian.Uint64(p)))
			addr += pageSize
		}
	}
	return nil
}

// fileMapping is a part of a file that a process has mapped.
type fileMapping struct {
	start, end uint64
	offset     int64 // in the file
	inode      uint64
}

// mappingsOf lists the target's mappings of the file with that name.
func (t Target) mappingsOf(name string) ([]fileMapping, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/maps", t.PID))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var mappings []fileMapping
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var m fileMapping
		var perms, device string
		if !strings.HasSuffix(lines.Text(), " "+name) {
			continue
		}
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s %x %s %d", &m.start, &m.end, &perms, &m.offset, &device, &m.inode); err != nil {
			return nil, fmt.Errorf("line %q of a process's maps: %w", lines.Text(), err)
		}
		mappings = append(mappings, m)
	}
	return mappings, lines.Err()
}

// ownPage calls use with a page of this process, filled with random bytes, and its
// page frame. An attack that can't read this page can't read ordinary memory.
func ownPage(use func(frame uint64, content []byte) error) error {
	mem, err := unix.Mmap(-1, 0, pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("mmap of a page: %w", err)
	}
	defer unix.Munmap(mem)
	if _, err := unix.Getrandom(mem[:256], 0); err != nil { // whole, getrandom(2)
		return fmt.Errorf("getrandom: %w", err)
	}
	frames, err := framesOf(context.Background(), mem)
	if err != nil {
		return err
	}
	frame := frames[0]
	if frame == 0 {
		return errNoFrames
	}
	return use(frame, mem)
}

// errNoFrames says that the caller may not know page frame numbers.
var errNoFrames = unavailable("the kernel shows page frame numbers to CAP_SYS_ADMIN only: run as root")

// readProcess reads another process's memory, process_vm_readv(2).
func readProcess(pid int, p []byte, addr uint64) (int, error) {
	local := []unix.Iovec{{Base: &p[0]}}
	local[0].SetLen(len(p))
	return unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(p)}}, 0)
}
