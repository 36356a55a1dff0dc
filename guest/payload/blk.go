package payload

// Bits of the first argument of the payload blk. See asm/blk.S.
const (
	BlkWrite  = 1 // it writes instead of reads
	BlkRandom = 2 // in random order
	BlkVerify = 4 // writes write the pattern, and reads must find it
)

// BlkPattern returns the 64-bit word at offset off, a multiple of 8, of a disk with the
// pattern.
func BlkPattern(off uint64) uint64 { return (off + 1) * 0x9e3779b97f4a7c15 }

// Disk reports whether the payload drives a disk.
func (p Payload) Disk() bool { return p.Name == "blk" }
