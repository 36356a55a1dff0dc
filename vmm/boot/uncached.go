package boot

import (
	"encoding/binary"

	"offmap/memory"
)

// MapUncached makes the 2 MiB page at at uncached in the page tables that cpu
// starts with, which are Payload's (Intel SDM vol. 3 §4.9, AMD APM vol. 2 §7.8):
// the entry's index into the PAT becomes 3, which is uncacheable at reset. KVM
// is free to ignore it.
func MapUncached(g memory.Guest, cpu CPU, at memory.GPA) error {
	const (
		pwt, pcd  = 1 << 3, 1 << 4
		frameMask = 1<<52 - memory.PageSize
	)
	table := cpu.CR3
	for _, shift := range []uint{39, 30, 21} {
		entryAt := memory.GPA(table&frameMask + 8*(uint64(at)>>shift&(tableEntries-1)))
		var entry [8]byte
		if _, err := g.ReadAt(entry[:], entryAt); err != nil {
			return err
		}
		table = binary.LittleEndian.Uint64(entry[:])
		if shift > 21 {
			continue
		}
		binary.LittleEndian.PutUint64(entry[:], table|pwt|pcd)
		if _, err := g.WriteAt(entry[:], entryAt); err != nil {
			return err
		}
	}
	return nil
}
