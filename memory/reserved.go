package memory

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// PhysRange is a range of host-physical memory, in bytes.
type PhysRange struct{ Start, Size uint64 }

// End is the first address after the range.
func (r PhysRange) End() uint64 { return r.Start + r.Size }

func (r PhysRange) String() string {
	return fmt.Sprintf("%d KiB at 0x%x", r.Size>>10, r.Start)
}

// ReservedRange is a range that the kernel was told on its command line to
// leave alone, with memmap=SIZE$ADDR. Err, if not nil, is why it can't be guest
// RAM all the same.
type ReservedRange struct {
	PhysRange
	Err error
}

// ReservedRanges returns the ranges that the kernel's command line reserves,
// in its order, whole pages of each. Only these can be the RAM of Reserved:
// everything else that /proc/iomem calls reserved is the firmware's.
func ReservedRanges() ([]ReservedRange, error) {
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil, err
	}
	var ranges []ReservedRange
	for _, r := range parseMemmap(string(cmdline)) {
		ranges = append(ranges, ReservedRange{PhysRange: r})
	}
	if ranges == nil {
		return nil, nil
	}
	iomem, err := os.ReadFile("/proc/iomem")
	if err != nil {
		return nil, err
	}
	firmware, err := firmwareMap()
	if err != nil {
		return nil, err
	}
	resources := parseIomem(string(iomem))
	for i, r := range ranges {
		ranges[i].Err = checkReserved(r.PhysRange, resources, firmware)
	}
	return ranges, nil
}

// parseMemmap finds the ranges of memmap=SIZE$ADDR[,SIZE$ADDR...] in a kernel
// command line (Documentation/admin-guide/kernel-parameters.txt). Words after
// "--" are init's. What the kernel takes in spite of an error in it doesn't
// count, nor do the other forms of memmap=.
func parseMemmap(cmdline string) []PhysRange {
	var ranges []PhysRange
	for word := range strings.FieldsSeq(cmdline) {
		word = strings.ReplaceAll(word, `"`, "")
		if word == "--" {
			break
		}
		list, ok := strings.CutPrefix(word, "memmap=")
		if !ok {
			continue
		}
		for entry := range strings.SplitSeq(list, ",") {
			size, start, ok := strings.Cut(entry, "$")
			n, sizeOK := parseSize(size)
			at, startOK := parseSize(start)
			if !ok || !sizeOK || !startOK || n > math.MaxUint64-at {
				continue
			}
			first, last := (at+PageSize-1)&^(PageSize-1), (at+n)&^(PageSize-1)
			if at <= first && first < last {
				ranges = append(ranges, PhysRange{first, last - first})
			}
		}
	}
	return ranges
}

// parseSize reads a number as the kernel's memparse does: decimal, octal with
// 0 or hexadecimal with 0x in front, and K, M, G, T, P or E behind, in either
// case. It refuses what memparse would let overflow.
func parseSize(s string) (uint64, bool) {
	shift := 0
	if s != "" {
		if i := strings.IndexByte("KMGTPE", s[len(s)-1]&^0x20); i >= 0 && !hexadecimal(s) {
			s, shift = s[:len(s)-1], 10*(i+1)
		}
	}
	// Base 0 also takes 0b, 0o and underscores, which memparse doesn't.
	if strings.ContainsAny(s, "_oO") || len(s) > 1 && (s[1] == 'b' || s[1] == 'B') {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 0, 64)
	return n << shift, err == nil && n<<shift>>shift == n
}

// hexadecimal reports whether the last character of s is a digit: E is one of
// a hexadecimal number's.
func hexadecimal(s string) bool {
	return (strings.HasPrefix(s, "0x") || strings.HasPrefix(s, "0X")) && strings.IndexByte("eE", s[len(s)-1]) >= 0
}

// resource is a named range of physical addresses.
type resource struct {
	PhysRange
	name string
}

// parseIomem reads /proc/iomem, nested resources included, in its order. For
// those without CAP_SYS_ADMIN the kernel makes all addresses zero.
func parseIomem(text string) []resource {
	var list []resource
	for line := range strings.Lines(text) {
		span, name, _ := strings.Cut(strings.TrimSpace(line), " : ")
		start, end, _ := strings.Cut(span, "-")
		if r, ok := newResource(start, end, name); ok {
			list = append(list, r)
		}
	}
	return list
}

// newResource makes a resource of hexadecimal addresses, of which end is the
// last.
func newResource(start, end, name string) (resource, bool) {
	s, err1 := strconv.ParseUint(start, 16, 64)
	e, err2 := strconv.ParseUint(end, 16, 64)
	if err1 != nil || err2 != nil || e < s || e == 0 || e == math.MaxUint64 {
		return resource{}, false
	}
	return resource{PhysRange{s, e - s + 1}, name}, true
}

// Names that the kernel gives to e820 ranges.
const (
	systemRAM   = "System RAM"
	reservedRAM = "Reserved"
)

// firmwareMap is the memory map as the firmware had it, before memmap= changed
// it (Documentation/ABI/testing/sysfs-firmware-memmap).
func firmwareMap() ([]resource, error) {
	const dir = "/sys/firmware/memmap"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("the firmware's memory map (CONFIG_FIRMWARE_MEMMAP), without which RAM can't be told from devices: %w", err)
	}
	var list []resource
	for _, e := range entries {
		var field [3]string
		for i, name := range []string{"start", "end", "type"} {
			b, err := os.ReadFile(filepath.Join(dir, e.Name(), name))
			if err != nil {
				return nil, err
			}
			field[i] = strings.TrimSpace(string(b))
		}
		if r, ok := newResource(strings.TrimPrefix(field[0], "0x"), strings.TrimPrefix(field[1], "0x"), field[2]); ok {
			list = append(list, r)
		}
	}
	return list, nil
}

var errNoAddresses = errors.New("/proc/iomem shows no addresses: run as root")

// checkReserved reports why r can't be guest RAM: guest RAM is written and
// cleared, so it must be RAM by the firmware's word, and nobody's by the
// kernel's. A device, or memory that a later word on the command line gave
// back, is neither.
func checkReserved(r PhysRange, iomem, firmware []resource) error {
	if len(iomem) == 0 {
		return errNoAddresses
	}
	if !within(r, firmware, systemRAM) {
		return errors.New("it isn't RAM, in the firmware's memory map")
	}
	if !within(r, iomem, reservedRAM) {
		return errors.New("/proc/iomem doesn't show it as Reserved")
	}
	for _, o := range iomem {
		if o.name != reservedRAM && o.Start < r.End() && r.Start < o.End() {
			return fmt.Errorf("/proc/iomem shows %q in it", o.name)
		}
	}
	return nil
}

// within reports whether one resource of that name holds all of r.
func within(r PhysRange, list []resource, name string) bool {
	for _, o := range list {
		if o.name == name && o.Start <= r.Start && r.End() <= o.End() {
			return true
		}
	}
	return false
}

// suggestMemmap returns a word for the kernel's command line that sets size
// bytes aside: in the middle of the largest piece of RAM, since kernel and
// initrd are loaded near the ends. Without an address where iomem shows none.
func suggestMemmap(size uint64, iomem []resource) string {
	size = (size + 1<<20 - 1) &^ (1<<20 - 1)
	var ram PhysRange
	for _, o := range iomem {
		if o.name == systemRAM && o.Size > ram.Size {
			ram = o.PhysRange
		}
	}
	at := "ADDRESS"
	if ram.Size > size+2*hugePage {
		at = fmt.Sprintf("0x%x", (ram.Start+(ram.Size-size)/2)&^(hugePage-1))
	}
	return fmt.Sprintf("memmap=%dM$%s", size>>20, at)
}
