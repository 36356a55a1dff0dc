package audit

import (
	"errors"
	"strings"
	"testing"

	"offmap/audit/canary"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParseAreas(t *testing.T) {
	const maps = `00400000-00a5b000 r-xp 00000000 fe:00 9979720                            /usr/bin/offmap
00a85000-02afd000 rw-p 00000000 00:00 0 
02f67000-02f88000 rw-p 00000000 00:00 0                                  [heap]
7f2000200000-7f2002200000 rw-s 00000000 00:01 18106                      /memfd:offmap-ram (deleted)
7f2003000000-7f2003001000 ---p 00000000 00:00 0 
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
`
	got, err := parseAreas(strings.NewReader(maps))
	if err != nil {
		t.Fatal(err)
	}
	want := []area{
		{0xa85000, 0x2afd000, "rw-p", ""},
		{0x2f67000, 0x2f88000, "rw-p", "[heap]"},
		{0x7f2000200000, 0x7f2002200000, "rw-s", "/memfd:offmap-ram (deleted)"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{"x", "1000-1000 rw-p 0 00:00 0", "2000-1000 rw-p 0 00:00 0", "1001-2000 rw-p 0 00:00 0", "1000-2000 rw-p 0 00:00"} {
		if a, err := parseAreas(strings.NewReader(bad)); err == nil {
			t.Errorf("%q: %v", bad, a)
		}
	}
}

func FuzzParseAreas(f *testing.F) {
	f.Add("1000-2000 rw-p 00000000 00:00 0    [heap]\n")
	f.Fuzz(func(t *testing.T, maps string) {
		areas, err := parseAreas(strings.NewReader(maps))
		for _, a := range areas {
			if err == nil && (a.Start >= a.End || a.Size()%pageSize != 0) {
				t.Errorf("%+v", a)
			}
		}
	})
}

// TestSweep sweeps this process by a way that refuses some pages: none of the
// others may be missed, but for what lies in the shadow of a long refusal.
func TestSweep(t *testing.T) {
	const pages, chunk = 64, 8
	mem, err := unix.Mmap(-1, 0, pages*pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS) // a file, which has no neighbours
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	for p := range pages {
		fixed.Plant(mem[p*pageSize+64:])
	}
	base := placeOf(mem)
	for _, tt := range []struct {
		name    string
		refused func(page int) bool
		least   int // pages found
	}{
		{"none", func(int) bool { return false }, pages},
		{"one", func(p int) bool { return p == 5 }, pages - 1},
		{"every other", func(p int) bool { return p%2 == 0 }, pages / 2},
		{"the first half", func(p int) bool { return p < pages/2 }, pages/2 - chunk},
		{"all", func(p int) bool { return true }, 0},
	} {
		calls := 0
		read := func(p []byte, addr uint64) (int, error) {
			if addr < base || addr >= base+uint64(len(mem)) {
				return 0, unix.EIO
			}
			calls++
			page := int(addr-base) / pageSize
			n := 0
			for ; n < len(p) && page+n/pageSize < pages && !tt.refused(page+n/pageSize); n += pageSize {
				copy(p[n:n+pageSize], mem[(page*pageSize+n):])
			}
			if n == 0 {
				return 0, unix.EFAULT
			}
			return n, nil // a short read has no error
		}
		f, err := Target{PID: unix.Getpid(), Canary: fixed}.sweep(t.Context(), chunk*pageSize, read)
		if err != nil {
			t.Fatal(err)
		}
		if f.Pages < tt.least || f.Pages > pages {
			t.Errorf("%s refused: found in %d pages, want %d", tt.name, f.Pages, tt.least)
		}
		if tt.name == "all" && (calls > pages/chunk+4 || !errors.Is(f.Errno, unix.EIO) && !errors.Is(f.Errno, unix.EFAULT)) {
			t.Errorf("all refused, in %d calls, with %v", calls, f.Errno)
		}
	}
}

// TestSweepFails: what says nothing of memory isn't taken for a refusal.
func TestSweepFails(t *testing.T) {
	for _, tt := range []struct {
		err     error
		refused bool
	}{
		{unix.EFAULT, true}, {unix.EIO, true}, {unix.EPERM, false}, {unix.ENOSPC, false}, {unix.ESRCH, false}, {errors.New("thread lost"), false},
	} {
		_, err := Target{PID: unix.Getpid(), Canary: fixed}.sweep(t.Context(), 1<<20, func([]byte, uint64) (int, error) { return 0, tt.err })
		if got := err == nil; got != tt.refused {
			t.Errorf("%v: %v", tt.err, err)
		}
	}
}

// fixed is a canary whose bytes are the same in every run.
var fixed, _ = canary.Parse(strings.Repeat("0123456789abcdef", 4))
