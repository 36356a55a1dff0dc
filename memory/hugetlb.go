package memory

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// hugePage is the size of Hugetlb's pages in bytes.
const hugePage = 2 << 20

// hugePagesDir is where the kernel counts them (Documentation/admin-guide/mm/
// hugetlbpage.rst).
const hugePagesDir = "/sys/kernel/mm/hugepages/hugepages-2048kB"

var errHugetlb = lacking("sysctl vm.nr_hugepages")

// HugePages counts the host's huge pages of 2 MiB. Promised are those of Free that
// are reserved for a mapping, which hasn't touched them yet.
type HugePages struct{ Total, Free, Promised uint64 }

// Available returns the number of free pages that are not reserved.
func (h HugePages) Available() uint64 { return h.Free - min(h.Free, h.Promised) }

// ReadHugePages counts the host's huge pages. It wraps ErrUnavailable where
// the kernel has none of 2 MiB.
func ReadHugePages() (h HugePages, err error) {
	for _, f := range []struct {
		name string
		n    *uint64
	}{{"nr_hugepages", &h.Total}, {"free_hugepages", &h.Free}, {"resv_hugepages", &h.Promised}} {
		text, err := os.ReadFile(filepath.Join(hugePagesDir, f.name))
		if errors.Is(err, os.ErrNotExist) {
			return h, fmt.Errorf("huge pages of 2 MiB: %w: this kernel has none: %w", errHugetlb, err)
		}
		if err != nil {
			return h, fmt.Errorf("huge pages of 2 MiB: %w", err)
		}
		if *f.n, err = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err != nil {
			return h, fmt.Errorf("huge pages of 2 MiB: %s: %w", f.name, err)
		}
	}
	return h, nil
}

// Fix returns a command that makes room for size more bytes of Hugetlb memory.
func (h HugePages) Fix(size uint64) string {
	used := h.Total - min(h.Total, h.Available())
	n := used + (size+hugePage-1)/hugePage
	// The sysctl is for the kernel's default size alone, which the command
	// line can set.
	info, _ := ReadMeminfo()
	if def, ok := info["Hugepagesize"]; ok && def != hugePage {
		return fmt.Sprintf("echo %d | sudo tee %s/nr_hugepages", n, hugePagesDir)
	}
	return fmt.Sprintf("sudo sysctl vm.nr_hugepages=%d", n)
}

func openHugetlb(size uint64) (file, error) {
	f, err := memfd(size, unix.MFD_HUGETLB|unix.MFD_HUGE_2MB)
	// ENODEV: no such size; ENOSYS: no hugetlbfs.
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOSYS) {
		return f, fmt.Errorf("backend %s: %w: this kernel has no huge pages of 2 MiB (CONFIG_HUGETLBFS): %w", Hugetlb, errHugetlb, err)
	}
	return f, err
}

// hugetlbRefused explains mmap's ENOMEM, which is for too few free pages.
func hugetlbRefused(size uint64, err error) error {
	if !errors.Is(err, unix.ENOMEM) {
		return err
	}
	h, herr := ReadHugePages()
	if herr != nil {
		return errors.Join(err, herr)
	}
	wanted := size / hugePage
	if h.Available() >= wanted {
		return fmt.Errorf("backend %s: %w: enough huge pages are free, %d, but this process may not have them (hugetlb.2MB.rsvd.max of its cgroup?): %w",
			Hugetlb, errHugetlb, h.Available(), err)
	}
	return fmt.Errorf("backend %s: %w: huge pages of 2 MiB are wanted, %d of them, and %d are free: `%s`",
		Hugetlb, errHugetlb, wanted, h.Available(), h.Fix(size))
}
