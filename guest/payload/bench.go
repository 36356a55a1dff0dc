package payload

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// BenchKind is what an operation of the payload bench does. See asm/bench.S.
type BenchKind string

// Kinds that callers have to tell apart; benchKinds has them all.
const (
	BenchFill    BenchKind = "fill"    // writes the data for reads and copies
	BenchLink    BenchKind = "link"    // makes the ring that a chase follows
	BenchScatter BenchKind = "scatter" // writes a word of each node in a ring's order
	BenchTouch   BenchKind = "touch"   // writes a word of each page, once
	BenchChase   BenchKind = "chase"   // follows the ring
)

// benchKinds are in the order of their numbers, and of the table in bench.S.
var benchKinds = []BenchKind{
	BenchFill, BenchLink, BenchScatter, BenchTouch, BenchChase, "random-read", "random-write",
	"read-8", "read-16", "read-32",
	"write-8", "write-16", "write-32", "write-rep", "write-nt",
	"copy-8", "copy-16", "copy-32", "copy-rep", "copy-nt",
}

// Prepares reports whether an operation of this kind only prepares others, and isn't
// measured.
func (k BenchKind) Prepares() bool {
	return k == BenchFill || k == BenchLink || k == BenchScatter
}

// AVX reports whether an operation of this kind needs the registers of AVX2.
func (k BenchKind) AVX() bool { return k == "read-32" || k == "write-32" || k == "copy-32" }

// BenchOp is an operation in a program for the payload bench. Each vCPU has an equal
// share of its memory, and all vCPUs run it at the same time.
type BenchOp struct {
	Kind BenchKind
	// Base is the guest-physical address of the operation's memory. Size is in
	// bytes, whole pages for each vCPU, and a power of two for random accesses
	// and for rings. A copy writes to the Size bytes that follow.
	Base, Size uint64
	// Stride is the size of a ring's node in bytes: a power of two, 64 to 4096.
	Stride uint64
	// Cycles is the least time to measure for, in cycles of the TSC.
	Cycles uint64
}

// BenchStretch is what a vCPU did in a measured operation between two readings of
// the TSC. Units are bytes; for random accesses and chases they are accesses.
type BenchStretch struct{ Start, End, Units uint64 }

// BenchMark has the TSC right before and right after an EventMark.
type BenchMark struct{ Before, After uint64 }

// BenchMarkings is the number of marks at the start, and the number at the end.
const BenchMarkings = 8

// The program's layout. asm/bench.S has the same numbers.
const (
	benchCount   = 0
	benchLeast   = 8
	benchResults = 16
	benchMarks   = 64
	benchOps     = 320
	benchShift   = 6 // log2 of the size of an operation, and of a result

	benchKind, benchBase, benchSize, benchStride, benchCycles = 0, 8, 16, 24, 32

	benchStart, benchEnd, benchUnits = 0, 8, 16
)

// BenchSize is the size in bytes of a program of ops operations.
func BenchSize(ops, cpus int) int { return benchOps + ops<<benchShift + ops*cpus<<benchShift }

// EncodeBench returns a program as the payload reads it at address at. Between its
// first marks and its last marks there are at least least cycles.
func EncodeBench(ops []BenchOp, cpus int, at, least uint64) ([]byte, error) {
	le := binary.LittleEndian
	b := make([]byte, BenchSize(len(ops), cpus))
	le.PutUint64(b[benchCount:], uint64(len(ops)))
	le.PutUint64(b[benchLeast:], least)
	le.PutUint64(b[benchResults:], at+benchOps+uint64(len(ops))<<benchShift)
	for i, op := range ops {
		kind := slices.Index(benchKinds, op.Kind)
		if kind < 0 {
			return nil, fmt.Errorf("operation %d of a bench program: no kind %q", i, op.Kind)
		}
		o := b[benchOps+i<<benchShift:]
		le.PutUint64(o[benchKind:], uint64(kind))
		le.PutUint64(o[benchBase:], op.Base)
		le.PutUint64(o[benchSize:], op.Size)
		le.PutUint64(o[benchStride:], op.Stride)
		le.PutUint64(o[benchCycles:], op.Cycles)
	}
	return b, nil
}

// BenchReport is what the payload wrote into its program. A guest wrote it, so none
// of it is to be trusted.
type BenchReport struct {
	First, Last [BenchMarkings]BenchMark
	// Stretches are by operation and vCPU. Those of operations that prepare
	// are zero.
	Stretches [][]BenchStretch
}

// DecodeBench reads the report from a program of ops operations. b has BenchSize
// bytes.
func DecodeBench(b []byte, ops, cpus int) (r BenchReport) {
	le := binary.LittleEndian
	for i := range r.First {
		for at, m := range map[int]*BenchMark{i: &r.First[i], i + BenchMarkings: &r.Last[i]} {
			m.Before = le.Uint64(b[benchMarks+16*at:])
			m.After = le.Uint64(b[benchMarks+16*at+8:])
		}
	}
	b = b[benchOps+ops<<benchShift:]
	r.Stretches = make([][]BenchStretch, ops)
	for i := range r.Stretches {
		for range cpus {
			r.Stretches[i] = append(r.Stretches[i], BenchStretch{
				Start: le.Uint64(b[benchStart:]),
				End:   le.Uint64(b[benchEnd:]),
				Units: le.Uint64(b[benchUnits:]),
			})
			b = b[1<<benchShift:]
		}
	}
	return r
}
