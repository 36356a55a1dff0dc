package probe

import (
	"errors"
	"strings"
	"testing"

	"offmap/memory"
)

func TestHugetlb(t *testing.T) {
	for _, c := range []struct {
		pages   memory.HugePages
		err     error
		backend memory.Backend
		status  Status
		says    string
	}{
		{memory.HugePages{}, errors.New("this kernel has none"), memory.Hugetlb, Skip, "has none"},
		{memory.HugePages{Total: 48, Free: 40, Promised: 8}, nil, memory.Hugetlb, OK, "32 of 48 huge pages are free, for 64 MiB"},
		{memory.HugePages{Total: 48, Free: 40, Promised: 9}, nil, memory.Hugetlb, Fail, "49"},
		{memory.HugePages{}, nil, memory.Secret, Skip, "vm.nr_hugepages"},
		{memory.HugePages{}, nil, memory.Hugetlb, Fail, "0 of 0"},
	} {
		h := &host{
			cfg:       Config{Backend: c.backend, Memory: 64 << 20},
			hugePages: func() (memory.HugePages, error) { return c.pages, c.err },
		}
		if got := h.hugetlb(); got.Status != c.status || !strings.Contains(got.Detail+got.Fix, c.says) || (got.Fix != "") != (got.Status == Fail) {
			t.Errorf("%+v: %+v, want %s and %q", c.pages, got, c.status, c.says)
		}
	}
}

func TestReserved(t *testing.T) {
	usable := memory.ReservedRange{PhysRange: memory.PhysRange{Start: 1 << 30, Size: 64 << 20}}
	unusable := memory.ReservedRange{PhysRange: memory.PhysRange{Start: 2 << 30, Size: 1 << 20}, Err: errors.New("no RAM")}
	for _, c := range []struct {
		ranges []memory.ReservedRange
		err    error
		status Status
		says   string
	}{
		{nil, nil, Skip, "memmap=SIZE$ADDRESS"},
		{nil, errors.New("no /proc"), Skip, "no /proc"},
		{[]memory.ReservedRange{usable}, nil, OK, "65536 KiB at 0x40000000"},
		{[]memory.ReservedRange{usable, unusable}, nil, Warn, "1024 KiB at 0x80000000 (can't be used: no RAM)"},
	} {
		h := &host{reservedRanges: func() ([]memory.ReservedRange, error) { return c.ranges, c.err }}
		if got := h.reserved(); got.Status != c.status || !strings.Contains(got.Detail, c.says) {
			t.Errorf("%+v: %+v, want %s and %q", c.ranges, got, c.status, c.says)
		}
	}
}
