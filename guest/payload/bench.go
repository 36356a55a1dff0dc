package payload

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// BenchKind is what an operation of the payload bench does. See asm/bench.S.
type BenchKind string

// Kinds that others than a list of them need to tell apart.
const (
	BenchFill    BenchKind = "fill"    // writes what reads and copies then find
	BenchLink    BenchKind = "link"    // makes the ring that a chase goes round
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

// Prepares says that an operation of this kind isn't measured.
func (k BenchKind) Prepares() bool {
	return k == BenchFill || k == BenchLink || k == BenchScatter
}

// AVX says that an operation of this kind needs the registers of AVX2.
func (k BenchKind) AVX() bool { return k == "read-32" || k == "write-32" || k == "copy-32" }

// BenchOp is an operation of the program that the payload bench goes through.
// Its vCPUs share the memory out evenly, and all go through it together.
type BenchOp struct {
	Kind BenchKind
	// Base is where its memory starts; Size its bytes, whole pages for each
	// vCPU, and a power of two for random accesses and for rings. A copy
	// writes as many bytes after those that it reads.
	Base, Size uint64
	// Stride is the bytes of a node of a ring: a power of two, 64 to 4096.
	Stride uint64
	// Cycles is how long it is measured at least.
	Cycles uint64
}

// BenchStretch is what a vCPU did in a measured operation: bytes, or for random
// accesses and chases accesses, between two readings of the TSC.
type BenchStretch struct{ Start, End, Units uint64 }

// BenchMark is the TSC right before and right after an EventMark.
type BenchMark struct{ Before, After uint64 }

// BenchMarkings is how many marks there are at the start and at the end.
const BenchMarkings = 8

// The program's layout, which asm/bench.S repeats.
const (
	benchCount   = 0
	benchLeast   = 8
	benchResults = 16
	benchMarks   = 64
	benchOps     = 320
	benchShift   = 6 // of an operation and of a result

	benchKind, benchBase, benchSize, benchStride, benchCycles = 0, 8, 16, 24, 32

	benchStart, benchEnd, benchUnits = 0, 8, 16
)

// BenchSize is how many bytes a program of ops operations takes.
func BenchSize(ops, cpus int) int { return benchOps + ops<<benchShift + ops*cpus<<benchShift }

// EncodeBench returns a program as the payload reads it at address at. Its first
// marks and its last are least cycles apart, or more.
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

// BenchReport is what the payload left in its program. All of it is a guest's
// word.
type BenchReport struct {
	First, Last [BenchMarkings]BenchMark
	// Stretches are by operation and vCPU; zero for those that prepare.
	Stretches [][]BenchStretch
}

// DecodeBench reads what is left of a program of ops operations. b has
// BenchSize bytes.
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
