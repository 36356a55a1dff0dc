package bench

import (
	"context"
	"fmt"
	"time"

	"offmap/guest/payload"
	"offmap/guest/protocol"
	"offmap/memory"
	"offmap/vmm/boot"
)

// The addresses of the guest's program and of the memory that it measures. The
// program is behind the payload, which checks that. The memory is at the start of a
// huge page.
const (
	programAt memory.GPA = 1 << 20
	memoryAt  memory.GPA = 2 << 20
)

// measuredGuest is a guest that runs a program of accesses.
type measuredGuest struct {
	accesses
	ring uint8
	// change, if not nil, is called after the guest is loaded.
	change func(ram memory.Guest, cpu boot.CPU) error
}

// inGuest runs the program in a new guest with the subject's memory. It returns the
// results of the operations that are measured.
func (p accesses) inGuest(ctx context.Context, s Subject) ([]measured, error) {
	return measuredGuest{accesses: p, ring: 3}.run(ctx, s)
}

func (g measuredGuest) run(ctx context.Context, s Subject) (results []measured, err error) {
	marks := make(chan time.Time, 2*payload.BenchMarkings+1) // one more than expected, to notice it
	_, err = payloadGuest{
		payload: "bench", cpus: g.cpus, size: g.ram(), native: true, load: g.load,
		event: func(v byte) {
			if v != protocol.EventMark {
				return
			}
			select {
			case marks <- time.Now():
			default:
			}
		},
		inspect: func(ram memory.Guest, khz int) error {
			left := make([]byte, payload.BenchSize(len(g.ops), g.cpus))
			if _, err := ram.ReadAt(left, programAt); err != nil {
				return fmt.Errorf("reading the guest's results: %w", err)
			}
			close(marks)
			var moments []time.Time
			for t := range marks {
				moments = append(moments, t)
			}
			results, err = g.judge(payload.DecodeBench(left, len(g.ops), g.cpus), moments, khz)
			return err
		},
	}.run(ctx, s)
	return results, err
}

// ram returns the size of the guest's RAM in bytes.
func (g measuredGuest) ram() uint64 { return max(uint64(memoryAt)+g.size, memory.MinSize) }

// load loads the payload and its program into RAM.
func (g measuredGuest) load(ram memory.Guest, p payload.Payload, khz int) ([]boot.CPU, error) {
	program, err := g.encode(uint64(programAt), uint64(memoryAt), khz)
	if err != nil {
		return nil, err
	}
	if len(program) > int(memoryAt-programAt) {
		return nil, fmt.Errorf("a bench program of %d bytes: at most %d", len(program), memoryAt-programAt)
	}
	cpus, err := boot.Payload(ram, p.Image(), boot.PayloadConfig{
		CPUs: g.cpus, Ring: g.ring, AVX: g.needsAVX(), Args: []uint64{uint64(programAt)},
	})
	if err != nil {
		return nil, err
	}
	if _, err := ram.WriteAt(program, programAt); err != nil {
		return nil, fmt.Errorf("writing the bench program: %w", err)
	}
	if g.change != nil {
		return cpus, g.change(ram, cpus[0])
	}
	return cpus, nil
}
