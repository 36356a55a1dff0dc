package bench

import (
	"time"

	"offmap/guest/payload"
)

// accesses is a program of memory accesses, for a guest or for the C baseline: the
// same operations on memory of the same size, by as many vCPUs or threads.
type accesses struct {
	cpus int
	size uint64 // bytes of memory
	ops  []access
}

// access is one operation of it.
type access struct {
	kind     payload.BenchKind
	at, size uint64        // bytes from the memory's start; see payload.BenchOp
	stride   uint64        // bytes of a ring's node
	least    time.Duration // how long it is measured
}

// measured is what came of an operation: bytes or accesses of all vCPUs
// together, and the seconds from the first one's start to the last one's end.
type measured struct{ units, seconds float64 }

// perSecond is units a second.
func (m measured) perSecond() float64 { return m.units / m.seconds }

// nanoseconds is the time of n units.
func (m measured) nanoseconds(n float64) float64 { return m.seconds * 1e9 * n / m.units }

// results are how many operations are measured.
func (p accesses) results() (n int) {
	for _, op := range p.ops {
		if !op.kind.Prepares() {
			n++
		}
	}
	return n
}

// needsAVX says that an operation needs the registers of AVX2.
func (p accesses) needsAVX() bool {
	for _, op := range p.ops {
		if op.kind.AVX() {
			return true
		}
	}
	return false
}

// encode writes the program for a guest whose memory starts at base and whose
// TSC has khz, to be read at address at.
func (p accesses) encode(at, base uint64, khz int) ([]byte, error) {
	var ops []payload.BenchOp
	for _, op := range p.ops {
		ops = append(ops, payload.BenchOp{
			Kind: op.kind, Base: base + op.at, Size: op.size, Stride: op.stride,
			Cycles: cycles(op.least, khz),
		})
	}
	return payload.EncodeBench(ops, p.cpus, at, cycles(clockLeast, khz))
}

// cycles of a TSC with khz in d.
func cycles(d time.Duration, khz int) uint64 { return uint64(d.Microseconds()) * uint64(khz) / 1000 }
