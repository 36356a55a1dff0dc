package protocol

import "encoding/binary"

// Offsets in the info block, which guest/payload/asm/common.inc repeats.
const (
	InfoRAM    = 0
	InfoCPUs   = 8
	InfoRanges = 12
	InfoArgs   = 16
	InfoTSC    = InfoArgs + 8*MaxArgs
	InfoTable  = InfoTSC + 8
	rangeSize  = 16
)

// MaxArgs is how many arguments a bare guest can have.
const MaxArgs = 4

// Range is guest-physical memory from Start up to End, in whole pages.
type Range struct{ Start, End uint64 }

// Info describes its machine to a bare guest.
type Info struct {
	RAM  uint64  // bytes in all
	CPUs uint32  // vCPUs that run the guest
	Free []Range // RAM for the guest to use, at least one range
	// Args are arguments, whose meaning is the guest's; 0 is its default.
	Args [MaxArgs]uint64
	TSC  uint64 // frequency of the vCPUs' TSC in kHz, 0 if it isn't known
}

// Encode returns the block as a guest reads it.
func (i Info) Encode() []byte {
	b := make([]byte, InfoTable+rangeSize*len(i.Free))
	binary.LittleEndian.PutUint64(b[InfoRAM:], i.RAM)
	binary.LittleEndian.PutUint32(b[InfoCPUs:], i.CPUs)
	binary.LittleEndian.PutUint32(b[InfoRanges:], uint32(len(i.Free)))
	for n, a := range i.Args {
		binary.LittleEndian.PutUint64(b[InfoArgs+8*n:], a)
	}
	binary.LittleEndian.PutUint64(b[InfoTSC:], i.TSC)
	for n, r := range i.Free {
		binary.LittleEndian.PutUint64(b[InfoTable+rangeSize*n:], r.Start)
		binary.LittleEndian.PutUint64(b[InfoTable+rangeSize*n+8:], r.End)
	}
	return b
}
