package memory

import (
	"errors"
	"fmt"
)

// The PCI hole: guest-physical addresses below 4 GiB that no layout puts RAM
// at, because the local APIC, the I/O APIC and memory-mapped devices live
// there on every PC. It starts at 3 GiB, as in QEMU's q35 and Firecracker.
const (
	HoleStart GPA = 3 << 30
	HoleEnd   GPA = 4 << 30
)

// Smallest and largest RAM sizes that NewLayout accepts, in bytes. Below
// 32 MiB no distribution kernel unpacks itself; 1 TiB keeps every region
// below the 46 bits of physical address that all KVM hosts have.
const (
	MinSize = 32 << 20
	MaxSize = 1 << 40
)

// Region is one contiguous range of guest RAM. Offset is where the region's
// first byte lies in the backend's memory; both are in bytes.
type Region struct {
	Start  GPA
	Size   uint64
	Offset uint64
}

// End returns the first address after the region.
func (r Region) End() GPA { return r.Start + GPA(r.Size) }

func (r Region) String() string { return fmt.Sprintf("[%s, %s)", r.Start, r.End()) }

// Layout is a validated list of RAM regions in ascending order, their offsets
// adjacent and starting from zero.
type Layout []Region

// Errors that a list of regions is refused with.
var (
	ErrNoRegions = errors.New("no RAM regions")
	ErrUnsorted  = errors.New("RAM regions not in ascending order")
	ErrOverlap   = errors.New("RAM regions overlap")
	ErrUnaligned = errors.New("RAM region not made of whole pages")
)

// NewLayout lays size bytes of RAM out as a PC has it: from address 0 up to
// the PCI hole, the rest from 4 GiB. Size must be whole pages between MinSize
// and MaxSize.
func NewLayout(size uint64) (Layout, error) {
	switch {
	case size < MinSize:
		return nil, fmt.Errorf("guest memory of %d bytes is too small: at least %d MiB", size, MinSize>>20)
	case size > MaxSize:
		return nil, fmt.Errorf("guest memory of %d bytes is too large: at most %d GiB", size, MaxSize>>30)
	}
	low := min(size, uint64(HoleStart))
	regions := []Region{{Start: 0, Size: low}}
	if size > low {
		regions = append(regions, Region{Start: HoleEnd, Size: size - low})
	}
	return LayoutOf(regions...)
}

// LayoutOf validates regions and numbers their offsets.
func LayoutOf(regions ...Region) (Layout, error) {
	if len(regions) == 0 {
		return nil, ErrNoRegions
	}
	l := make(Layout, len(regions))
	var off uint64
	for i, r := range regions {
		if r.Size == 0 || r.Size%PageSize != 0 || r.Start%PageSize != 0 {
			return nil, fmt.Errorf("region %d at %s, %d bytes: %w", i, r.Start, r.Size, ErrUnaligned)
		}
		if r.Size > MaxSize || r.Start > 1<<46 {
			return nil, fmt.Errorf("region %d at %s, %d bytes: beyond the physical address space", i, r.Start, r.Size)
		}
		if i > 0 {
			prev := l[i-1]
			if r.Start < prev.Start {
				return nil, fmt.Errorf("region %d at %s after %s: %w", i, r.Start, prev, ErrUnsorted)
			}
			if r.Start < prev.End() {
				return nil, fmt.Errorf("region %d at %s and %s: %w", i, r.Start, prev, ErrOverlap)
			}
		}
		l[i] = Region{Start: r.Start, Size: r.Size, Offset: off}
		off += r.Size
	}
	return l, nil
}

// Size returns the RAM of the layout in bytes.
func (l Layout) Size() uint64 {
	if len(l) == 0 {
		return 0
	}
	last := l[len(l)-1]
	return last.Offset + last.Size
}

// Top returns the first address after the last region.
func (l Layout) Top() GPA {
	if len(l) == 0 {
		return 0
	}
	return l[len(l)-1].End()
}

// Find returns the backend offset of gpa and how many bytes of RAM follow it
// in the same region. ok is false where gpa is not RAM.
func (l Layout) Find(gpa GPA) (off, n uint64, ok bool) {
	for i := range l { // there are two or three
		if r := &l[i]; gpa < r.End() {
			if gpa < r.Start {
				break
			}
			d := uint64(gpa - r.Start)
			return r.Offset + d, r.Size - d, true
		}
	}
	return 0, 0, false
}

// Contains reports whether all n bytes from gpa are RAM. Adjacent regions
// count as one, as they do for the guest.
func (l Layout) Contains(gpa GPA, n uint64) bool {
	for n > 0 {
		_, have, ok := l.Find(gpa)
		if !ok {
			return false
		}
		if have >= n {
			return true
		}
		n -= have
		gpa += GPA(have)
	}
	return true
}
