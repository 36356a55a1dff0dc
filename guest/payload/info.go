package payload

import "encoding/binary"

// Offsets in the info block, which asm/common.inc repeats.
const (
	infoRAM    = 0
	infoCPUs   = 8
	infoRanges = 12
	infoArgs   = 16
	infoTable  = infoArgs + 8*MaxArgs
	rangeSize  = 16
)

// MaxArgs is how many arguments a payload can have.
const MaxArgs = 4

// Range is guest-physical memory from Start up to End, in whole pages.
type Range struct{ Start, End uint64 }

// Info is what a payload is told about its machine.
type Info struct {
	RAM  uint64  // bytes in all
	CPUs uint32  // vCPUs that run the payload
	Free []Range // RAM that is the payload's to use, at least one range
	// Args mean what the payload's source says; 0 stands for its default.
	Args [MaxArgs]uint64
}

// Encode returns the block as a payload reads it.
func (i Info) Encode() []byte {
	b := make([]byte, infoTable+rangeSize*len(i.Free))
	binary.LittleEndian.PutUint64(b[infoRAM:], i.RAM)
	binary.LittleEndian.PutUint32(b[infoCPUs:], i.CPUs)
	binary.LittleEndian.PutUint32(b[infoRanges:], uint32(len(i.Free)))
	for n, a := range i.Args {
		binary.LittleEndian.PutUint64(b[infoArgs+8*n:], a)
	}
	for n, r := range i.Free {
		binary.LittleEndian.PutUint64(b[infoTable+rangeSize*n:], r.Start)
		binary.LittleEndian.PutUint64(b[infoTable+rangeSize*n+8:], r.End)
	}
	return b
}
