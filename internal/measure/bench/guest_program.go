package bench

import (
	"time"

	"offmap/guest/payload"
)

// accesses is a program of memory accesses, which a guest and the C baseline can
// run: the same operations, by as many vCPUs or threads.
type accesses struct {
	cpus int
	size uint64 // bytes of memory
	ops  []access
}

// access is one operation of a program.
type access struct {
	kind     payload.BenchKind
	at, size uint64        // bytes from the memory's start; see payload.BenchOp
	stride   uint64        // bytes of a ring's node
	least    time.Duration // the least time for which it is measured
}

// measured is the result of an operation: the bytes or accesses of all vCPUs, and
// the seconds from the first one's start to the last one's end.
type measured struct{ units, seconds float64 }

// perSecond returns the units per second.
func (m measured) perSecond() float64 { return m.units / m.seconds }

// nanoseconds returns the time of n units.
func (m measured) nanoseconds(n float64) float64 { return m.seconds * 1e9 * n / m.units }

// results returns the number of operations that are measured.
func (p accesses) results() (n int) {
	for _, op := range p.ops {
		if !op.kind.Prepares() {
			n++
		}
	}
	return n
}

// needsAVX reports whether an operation needs the registers of AVX2.
func (p accesses) needsAVX() bool {
	for _, op := range p.ops {
		if op.kind.AVX() {
			return true
		}
	}
	return false
}

// encode returns the program as a guest reads it at address at. The guest's memory
// starts at base, and its TSC has khz.
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

// cycles returns the cycles in d of a TSC with khz.
func cycles(d time.Duration, khz int) uint64 { return uint64(d.Microseconds()) * uint64(khz) / 1000 }
