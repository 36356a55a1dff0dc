package limits

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"offmap/memory"
)

// smaps returns the entry of /proc/self/smaps for the mapping that begins at the
// area: sizes in KiB, and the VmFlags by their two letters, proc(5).
func (a *area) smaps() (sizes map[string]int, flags []string, err error) {
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return nil, nil, err
	}
	start := fmt.Sprintf("%x-", a.addr())
	found := false
	sizes = map[string]int{}
	for line := range strings.Lines(string(text)) {
		key, rest, ok := strings.Cut(line, ":")
		switch {
		case !ok || strings.Contains(key, "-"): // a mapping's first line
			if found {
				return sizes, flags, nil
			}
			found = strings.HasPrefix(line, start)
		case !found:
		case key == "VmFlags":
			flags = strings.Fields(rest)
		default:
			if f := strings.Fields(rest); len(f) == 2 && f[1] == "kB" {
				sizes[key], _ = strconv.Atoi(f[0])
			}
		}
	}
	if !found {
		return nil, nil, fmt.Errorf("/proc/self/smaps has no mapping at %#x", a.addr())
	}
	return sizes, flags, nil
}

// Bits of an entry of /proc/PID/pagemap
// (Documentation/admin-guide/mm/pagemap.rst).
const (
	pagePresent = 1 << 63
	pagePFN     = 1<<55 - 1
)

// pagemap reads the area's entries.
func (a *area) pagemap() ([]uint64, error) {
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	buf := make([]byte, (len(a.mem)+memory.PageSize-1)/memory.PageSize*8)
	if _, err := f.ReadAt(buf, int64(a.addr()/memory.PageSize*8)); err != nil {
		return nil, err
	}
	entries := make([]uint64, len(buf)/8)
	for i := range entries {
		entries[i] = binary.LittleEndian.Uint64(buf[8*i:])
	}
	return entries, nil
}

// frames returns the page frame numbers of the area's pages, which must all be
// populated. It takes CAP_SYS_ADMIN.
func (a *area) frames() ([]uint64, error) {
	entries, err := a.pagemap()
	if err != nil {
		return nil, err
	}
	for i, e := range entries {
		if e&pagePresent == 0 {
			return nil, fmt.Errorf("page %d of %s memory isn't there any more", i, a.backend)
		}
		if entries[i] = e & pagePFN; entries[i] == 0 {
			return nil, skipped("the frames of pages are shown only to CAP_SYS_ADMIN: run as root")
		}
	}
	return entries, nil
}

// Bits of an entry of /proc/kpageflags (pagemap.rst there).
const (
	frameSlab        = 1 << 7
	frameBuddy       = 1 << 10
	frameUnevictable = 1 << 18
	frameNone        = 1 << 20
	framePageTable   = 1 << 26
)

// frameFlags reads the flags of n frames from pfn on.
func frameFlags(pfn uint64, n int) ([]uint64, error) {
	f, err := os.Open("/proc/kpageflags")
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return nil, skipped("%v", err)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	buf := make([]byte, 8*n)
	got, err := f.ReadAt(buf, int64(8*pfn))
	if got == 0 {
		return nil, err
	}
	flags := make([]uint64, got/8)
	for i := range flags {
		flags[i] = binary.LittleEndian.Uint64(buf[8*i:])
	}
	return flags, nil
}

// zone is a range of frames: one zone of one NUMA node.
type zone struct {
	name       string
	start, end uint64 // frames
	present    uint64 // pages in it
}

// parseZones reads the text of /proc/zoneinfo.
func parseZones(text string) (zones []zone) {
	var z *zone
	for line := range strings.Lines(text) {
		f := strings.Fields(strings.ReplaceAll(line, ":", " "))
		switch {
		case len(f) == 4 && f[0] == "Node" && f[2] == "zone":
			zones = append(zones, zone{name: f[3]})
			z = &zones[len(zones)-1]
		case len(f) == 5 && f[0] == "Node" && f[3] == "zone": // Node 0, zone Normal
			zones = append(zones, zone{name: f[4]})
			z = &zones[len(zones)-1]
		case z == nil || len(f) != 2:
		case f[0] == "spanned":
			z.end, _ = strconv.ParseUint(f[1], 10, 64) // its length, so far
		case f[0] == "present":
			z.present, _ = strconv.ParseUint(f[1], 10, 64)
		case f[0] == "start_pfn":
			z.start, _ = strconv.ParseUint(f[1], 10, 64)
			z.end += z.start
		}
	}
	return zones
}
