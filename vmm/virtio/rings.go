package virtio

import (
	"fmt"

	"offmap/memory"
)

// Feature bits that don't belong to a device's type, virtio 1.2 §6.
const (
	IndirectDesc uint64 = 1 << 28 // VIRTIO_F_INDIRECT_DESC
	EventIdx     uint64 = 1 << 29 // VIRTIO_F_EVENT_IDX
	Version1     uint64 = 1 << 32 // VIRTIO_F_VERSION_1
)

// MaxQueueSize is the largest size of a split virtqueue, in descriptors (§2.7).
const MaxQueueSize = 32768

// Flags of a descriptor (§2.7.5) and of the avail ring (§2.7.6).
const (
	descNext     = 1
	descWrite    = 2
	descIndirect = 4

	availNoInterrupt = 1
)

// descSize is the size of a descriptor in bytes: address (8 bytes), length (4),
// flags (2), next (2).
const descSize = 16

// Rings says where the three parts of a split virtqueue are in guest RAM (§2.7).
type Rings struct {
	Size  int        // descriptors: a power of two
	Desc  memory.GPA // descriptor table
	Avail memory.GPA // avail ring: flags, index, Size heads, used_event; 2 bytes each
	Used  memory.GPA // used ring: flags, index, Size elements of 8 bytes, avail_event
}

func (r Rings) availIndex() memory.GPA        { return r.Avail + 2 }
func (r Rings) availHead(i uint16) memory.GPA { return r.Avail + 4 + 2*r.slot(i) }
func (r Rings) usedEvent() memory.GPA         { return r.Avail + 4 + 2*memory.GPA(r.Size) }
func (r Rings) usedIndex() memory.GPA         { return r.Used + 2 }
func (r Rings) usedElem(i uint16) memory.GPA  { return r.Used + 4 + 8*r.slot(i) }
func (r Rings) availEvent() memory.GPA        { return r.Used + 4 + 8*memory.GPA(r.Size) }
func (r Rings) slot(i uint16) memory.GPA      { return memory.GPA(i) & memory.GPA(r.Size-1) }

// check checks size, alignment (§2.7, table "Virtqueue Part") and place of the rings.
func (r Rings) check(l memory.Layout) error {
	if r.Size <= 0 || r.Size > MaxQueueSize || r.Size&(r.Size-1) != 0 {
		return fmt.Errorf("queue size %d: not a power of two up to %d", r.Size, MaxQueueSize)
	}
	n := uint64(r.Size)
	for _, p := range []struct {
		name        string
		gpa         memory.GPA
		align, size uint64
	}{
		{"descriptor table", r.Desc, 16, descSize * n},
		{"avail ring", r.Avail, 2, 6 + 2*n},
		{"used ring", r.Used, 4, 6 + 8*n},
	} {
		if uint64(p.gpa)%p.align != 0 {
			return fmt.Errorf("%s at %s: not aligned to %d bytes", p.name, p.gpa, p.align)
		}
		if !l.Contains(p.gpa, p.size) {
			return fmt.Errorf("%s of %d bytes at %s: %w", p.name, p.size, p.gpa, memory.ErrHole)
		}
	}
	return nil
}
