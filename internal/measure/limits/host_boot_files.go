package limits

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"offmap/audit/canary"
	"offmap/memory"
	"offmap/vmm/boot"
)

// bootFileLimits are about the files that a guest is booted from.
func bootFileLimits() []Limit {
	return []Limit{{
		ID:       "boot-files-in-ordinary-memory",
		Title:    "A guest's kernel and initrd stay in the host's page cache, and then in freed pages",
		Source:   "the page cache, kernel documentation: ordinary reads, writes and mappings of files go through it",
		Link:     "https://docs.kernel.org/mm/page_cache.html",
		How:      "An initrd of 64 pages with a canary in each is put into secret guest RAM by the loader of offmap run; a second canary is only in that RAM. The direct map is searched for both through /proc/kcore then, after fsync and POSIX_FADV_DONTNEED, and when the file is gone.",
		Expected: "Every page of the file is found once it is loaded; the canary that is only in RAM is never found",
		Means:    "A secret doesn't belong in a kernel, an initrd or a command line: hiding the guest's RAM doesn't hide its files. Give it to the guest over an encrypted connection once it runs. Deleting the file, or dropping it from the page cache, frees its pages and doesn't wipe them (see wiped-when-freed), except with init_on_free=1.",
		check: func(ctx context.Context) (Observation, error) {
			return checkBootFiles(ctx, memory.Secret, scanKcore)
		},
	}}
}

const (
	bootFilePages = 64
	// bootResting is where nothing is loaded.
	bootResting memory.GPA = 8<<20 + plantAt
)

func checkBootFiles(ctx context.Context, b memory.Backend, search scan) (o Observation, err error) {
	canaries, err := newCanaries(2)
	if err != nil {
		return o, err
	}
	ram, err := newRAM(b, guestSize)
	if err != nil {
		return o, lacking(err)
	}
	defer func() { err = errors.Join(err, ram.Close()) }()
	if _, err := ram.WriteAt([]byte{0}, bootResting); err != nil { // an error if there is no page
		return o, err
	}
	mem := bytesOf(ram)
	canaries[1].Plant(mem[bootResting:])

	f, kind, err := canaryFile(bootFilePages, canaries[0])
	if err != nil {
		return o, err
	}
	defer f.Close()
	const size = bootFilePages * memory.PageSize
	kernel, err := emptyKernel()
	if err != nil {
		return o, err
	}
	if _, err := boot.Linux(ram, boot.LinuxConfig{Kernel: kernel, Initrd: io.NewSectionReader(f, 0, size), CPUs: 1}); err != nil {
		return o, err
	}
	if !canaries[0].In(mem[len(mem)-size+plantAt:]) {
		return o, errors.New("the initrd isn't where it was to be loaded")
	}

	file, resting, err := searchDropped(ctx, f, canaries, search)
	if err != nil {
		return o, err
	}
	o.Holds = file[0] >= bootFilePages && resting == [3]int{}
	o.Text = fmt.Sprintf("copies in the direct map of the canary in each of the %d pages of an initrd on %s: %d when it is loaded, %d after POSIX_FADV_DONTNEED, %d when the file is gone; of the one that is only in guest RAM %d, %d and %d; init_on_free is %s",
		bootFilePages, kind, file[0], file[1], file[2], resting[0], resting[1], resting[2], initOnFree())
	return o, nil
}

// searchDropped searches for two canaries after each step by which f leaves the page
// cache. It returns how often it found the first, which is in the file, and the second,
// which is in guest RAM only.
func searchDropped(ctx context.Context, f *os.File, canaries []canary.Canary, search scan) (file, resting [3]int, err error) {
	for i, drop := range dropped(f) {
		if err := drop(); err != nil {
			return file, resting, err
		}
		hits, err := search(ctx, canaries)
		if err != nil {
			return file, resting, err
		}
		file[i], resting[i] = hits[0].Total, hits[1].Total
	}
	return file, resting, nil
}

// dropped are the steps by which a file without a name leaves the page cache: none,
// its pages written to the disk and dropped, the file gone.
func dropped(f *os.File) [3]func() error {
	return [3]func() error{
		func() error { return nil },
		func() error {
			return errors.Join(f.Sync(), os.NewSyscallError("fadvise", unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)))
		},
		f.Close,
	}
}

// scratchFile makes a temporary file without a name. kind is the file system.
func scratchFile() (f *os.File, kind string, err error) {
	f, err = os.CreateTemp("", ".offmap-limits-*")
	if err != nil {
		return nil, "", skipped("no scratch file: %v", err)
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := os.Remove(f.Name()); err != nil {
		return f, "", err
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return f, "", fmt.Errorf("fstatfs of a scratch file: %w", err)
	}
	kind = "tmpfs"
	if fs.Type != unix.TMPFS_MAGIC {
		kind = fmt.Sprintf("file system 0x%x", fs.Type)
	}
	return f, kind, nil
}

// canaryFile is scratchFile with c in each of so many pages. It plants c in the page
// cache itself, so that there are no other copies.
func canaryFile(pages int, c canary.Canary) (f *os.File, kind string, err error) {
	f, kind, err = scratchFile()
	if err != nil {
		return nil, "", err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	size := pages * memory.PageSize
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(size)); err != nil { // a hole that the disk has no room for is a SIGBUS
		return f, kind, fmt.Errorf("fallocate of %d bytes: %w", size, err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return f, kind, fmt.Errorf("mmap of a file: %w", err)
	}
	for off := 0; off < size; off += memory.PageSize {
		c.Plant(mem[off+plantAt:])
	}
	return f, kind, os.NewSyscallError("munmap", unix.Munmap(mem))
}

// emptyKernel is the smallest kernel that the loader accepts: an ELF file with one
// segment of zeros.
func emptyKernel() (*io.SectionReader, error) {
	var file bytes.Buffer
	h := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Entry: uint64(guestPage), Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1,
	}
	p := elf.Prog64{Type: uint32(elf.PT_LOAD), Paddr: uint64(guestPage), Memsz: memory.PageSize}
	if err := errors.Join(binary.Write(&file, binary.LittleEndian, h), binary.Write(&file, binary.LittleEndian, p)); err != nil {
		return nil, err
	}
	return io.NewSectionReader(bytes.NewReader(file.Bytes()), 0, int64(file.Len())), nil
}
