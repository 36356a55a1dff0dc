package probe

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"

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
		h := &host{
			files:          files{fstest.MapFS{}},
			reservedRanges: func() ([]memory.ReservedRange, error) { return c.ranges, c.err },
			holdReserved:   func() (func() error, error) { return nil, memory.ErrUnavailable },
		}
		if got := h.reserved(); got.Status != c.status || !strings.Contains(got.Detail, c.says) {
			t.Errorf("%+v: %+v, want %s and %q", c.ranges, got, c.status, c.says)
		}
	}
}

// TestReservedType holds the check to the kernel's list, and to a mapping of its
// own being there when it reads that.
func TestReservedType(t *testing.T) {
	const other = "PAT memtype list:\nPAT: [mem 0x00000000fec00000-0x00000000fec01000] uncached-minus\n"
	ranges := []memory.ReservedRange{{PhysRange: memory.PhysRange{Start: 0x60000000, Size: 64 << 20}}}
	for _, c := range []struct {
		mapped string // what a mapping adds to the list
		status Status
		says   string
	}{
		{"PAT: [mem 0x0000000060000000-0x0000000060001000] write-back\n", OK, "; mapped write-back"},
		{"PAT: [mem 0x0000000063fff000-0x0000000064000000] uncached-minus\n", Warn, "; mapped uncached-minus"},
		{"PAT: [mem 0x000000005ffff000-0x0000000060000000] uncached-minus\n", OK, ""},
		{"PAT: [mem 0x0000000064000000-0x0000000064001000] uncached-minus\n", OK, ""},
	} {
		root := fstest.MapFS{memoryTypeList: &fstest.MapFile{Data: []byte(other)}}
		h := &host{
			files:          files{root},
			reservedRanges: func() ([]memory.ReservedRange, error) { return ranges, nil },
			holdReserved: func() (func() error, error) {
				root[memoryTypeList].Data = []byte(other + c.mapped)
				return func() error { root[memoryTypeList].Data = nil; return nil }, nil
			},
		}
		got := h.reserved()
		if got.Status != c.status || !strings.Contains(got.Detail, c.says) || c.says == "" && strings.Contains(got.Detail, "mapped") {
			t.Errorf("%q: %+v, want %s and %q", c.mapped, got, c.status, c.says)
		}
		if root[memoryTypeList].Data != nil {
			t.Errorf("%q: the mapping stays", c.mapped)
		}
	}
}

// TestRemoved holds the check to what the module and the kernel say.
func TestRemoved(t *testing.T) {
	offline := fstest.MapFS{"sys/devices/system/memory/auto_online_blocks": {Data: []byte("offline\n")}}
	pool := memory.RemovedPool{Block: 128 << 20, Limit: 1 << 30, Removed: 256 << 20, Free: 64 << 20}
	for _, c := range []struct {
		backend memory.Backend
		files   fstest.MapFS
		err     error
		status  Status
		says    string
	}{
		{memory.Removed, nil, nil, OK, "1024 MiB may be taken out of the kernel, in blocks of 128 MiB; 256 MiB are, and 64 MiB"},
		{memory.Removed, offline, nil, Fail, "unused"},
		{memory.Secret, offline, nil, Skip, "unused"},
		{memory.Removed, nil, errors.New("no module"), Fail, "no module"},
		{memory.Secret, nil, errors.New("no module"), Skip, "no module"},
		{memory.Removed, fstest.MapFS{hugePFN: {Data: []byte("always madvise [never]\n")}}, nil, OK, "4 KiB"},
	} {
		h := &host{
			files: files{c.files}, cfg: Config{Backend: c.backend},
			removedPool: func() (memory.RemovedPool, error) { return pool, c.err },
		}
		if got := h.removed(); got.Status != c.status || !strings.Contains(got.Detail, c.says) || (got.Fix != "") != (c.status == Fail) {
			t.Errorf("%s, %v, %v: %+v, want %s and %q", c.backend, c.files, c.err, got, c.status, c.says)
		}
	}
}
