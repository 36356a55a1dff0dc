package canary

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"offmap/internal/process/unavailable"
	"os"

	"golang.org/x/sys/unix"
)

// kcorePath is the kernel's memory as an ELF core file, proc(5).
const kcorePath = "/proc/kcore"

// ErrUnavailable matches every UnavailableError.
var ErrUnavailable error = unavailable.New("not on this host", "")

// UnavailableError says why a scan, or an attack, can't be made on this host.
type UnavailableError struct{ Reason error }

func (e *UnavailableError) Error() string   { return fmt.Sprintf("%v: %v", ErrUnavailable, e.Reason) }
func (e *UnavailableError) Unwrap() []error { return []error{ErrUnavailable, e.Reason} }

// kernelMap is where x86-64 maps the kernel's image and modules; the direct
// map lies below it. Documentation/arch/x86/x86_64/mm.rst.
const kernelMap = 0xffffffff80000000

// ScanKcore searches the running kernel's whole direct map for canaries, through
// /proc/kcore. Addresses in Hits are physical.
//
// A page that isn't in the direct map reads as zeros and not as an error. So no
// hits means that the canary was not readable; only a scan from outside the host
// can show that it was in RAM. An *UnavailableError says why the host can't be
// scanned.
func ScanKcore(ctx context.Context, canaries []Canary, progress Progress) ([]Hits, error) {
	f, err := os.Open(kcorePath)
	if err != nil {
		return nil, explainKcore(err)
	}
	defer f.Close()
	k, err := parseKcore(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kcorePath, err)
	}
	s := newScanner(f, canaries, progress)
	// The kernel reads each page into a bounce buffer of this open file, in
	// ordinary memory (fs/proc/kcore.c). A page of kernel text cleans it.
	page := make([]byte, 4096)
	s.wash = func() error { return s.read(page, k.text) }
	if err := s.run(ctx, k.direct); err != nil {
		return s.hits, fmt.Errorf("scan %s: %w", kcorePath, explainKcore(err))
	}
	return s.hits, nil
}

// CheckKcore reports whether ScanKcore can work here. An UnavailableError says
// what would help.
func CheckKcore() error {
	f, err := os.Open(kcorePath)
	if err != nil {
		return explainKcore(err)
	}
	return f.Close()
}

// explainKcore adds to an error of /proc/kcore what would help.
func explainKcore(err error) error {
	help := ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		help = "this kernel is built without CONFIG_PROC_KCORE, or /proc isn't mounted; scan in a stock kernel with offmap lab"
	case errors.Is(err, unix.EPERM):
		help = "needs CAP_SYS_RAWIO and a kernel that isn't locked down (cat /sys/kernel/security/lockdown): run as root, without lockdown=confidentiality"
	case errors.Is(err, unix.EACCES):
		help = "run as root"
	default:
		return err
	}
	return &UnavailableError{fmt.Errorf("%w: %s", err, help)}
}

// kcore is the layout of /proc/kcore as far as a scan needs it.
type kcore struct {
	direct []Range // the direct map: offset in the file, physical address
	text   int64   // offset of the kernel's text in the file
}

// parseKcore finds the direct map among the segments. The kernel fills in the
// physical address of RAM and of its own image and sets it to -1 for the rest
// (since Linux 4.19, fs/proc/kcore.c). The image lies at kernelMap and above.
// What is left must be one linear mapping, wherever KASLR has put it.
func parseKcore(r io.ReaderAt) (kcore, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return kcore{}, err
	}
	if f.Type != elf.ET_CORE || f.Machine != elf.EM_X86_64 || f.Class != elf.ELFCLASS64 {
		return kcore{}, fmt.Errorf("a %v file for %v, want an x86-64 core", f.Type, f.Machine)
	}
	var k kcore
	var base uint64
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD || p.Paddr == ^uint64(0) {
			continue
		}
		if p.Vaddr >= kernelMap {
			k.text = int64(p.Off)
			continue
		}
		if len(k.direct) == 0 {
			base = p.Vaddr - p.Paddr
		}
		if p.Vaddr-p.Paddr != base {
			return kcore{}, fmt.Errorf("segment at %#x has physical address %#x, not in line with a direct map at %#x", p.Vaddr, p.Paddr, base)
		}
		k.direct = append(k.direct, Range{Off: int64(p.Off), Len: int64(p.Filesz), Addr: p.Paddr})
	}
	switch {
	case len(k.direct) == 0:
		return kcore{}, errors.New("no segment of the direct map; needs Linux 4.19 or newer")
	case k.text == 0:
		return kcore{}, errors.New("no segment of the kernel's text")
	}
	return k, nil
}
