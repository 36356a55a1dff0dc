package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"offmap/memory"
)

// neighbourScenarios measure how a backend's memory slows other programs.
func neighbourScenarios() []Scenario {
	return []Scenario{{
		Name: "neighbour",
		Slow: true,
		About: "another program's work before and while 256 MiB of the backend's memory are populated (quick: 64), while they exist, and after they are freed. " +
			"chase follows pointers in ordinary memory: user space doesn't use the direct map, so only TLB flushes can slow it. " +
			"read is pread(2) of 64 random bytes of a memfd, which the kernel copies through the direct map: smaller pages in it cause TLB misses. " +
			"read-new reads a file created afterwards, which may get the pages that were freed",
		Native: true,
		Metrics: []Metric{
			{Name: "chase-before", Unit: "ns/op"}, {Name: "chase-populating", Unit: "ns/op"},
			{Name: "chase-during", Unit: "ns/op"}, {Name: "chase-after", Unit: "ns/op"},
			{Name: "read-before", Unit: "ns/op"}, {Name: "read-during", Unit: "ns/op"},
			{Name: "read-after", Unit: "ns/op"}, {Name: "read-new", Unit: "ns/op"},
		},
		Subjects: secretAndControl,
		Sample:   sampleNeighbour,
	}}
}

// line is a cache line with the index of the next one.
type line struct {
	next uint32
	_    [60]byte
}

func sampleNeighbour(ctx context.Context, e *Env, s Subject) (values []float64, err error) {
	size, ops := e.pick(64<<20, 256<<20), int(e.pick(100_000, 500_000))
	lines := cycle(int(size / 64))
	file, err := newReadFile(size)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()

	at := uint32(0)
	chase := func() float64 { return timed(ops, func() { at = follow(lines, at, ops) }) }
	chaseBefore := chase()
	readBefore, err := readRandom(file, size, ops)
	if err != nil {
		return nil, err
	}

	var ram *memory.RAM
	done := make(chan error)
	go func() {
		var err error
		ram, err = populated(s.Backend, size)
		done <- err
	}()
	chasePopulating, err := chaseUntil(lines, done)
	if err != nil {
		return nil, err
	}
	chaseDuring := chase()
	readDuring, err := readRandom(file, size, ops)
	if err := errors.Join(err, ram.Close(), ctx.Err()); err != nil {
		return nil, err
	}

	chaseAfter := chase()
	readAfter, err := readRandom(file, size, ops)
	if err != nil {
		return nil, err
	}
	again, err := newReadFile(size)
	if err != nil {
		return nil, err
	}
	readNew, err := readRandom(again, size, ops)
	return []float64{
		chaseBefore, chasePopulating, chaseDuring, chaseAfter,
		readBefore, readDuring, readAfter, readNew,
	}, errors.Join(err, again.Close())
}

// cycle returns n lines in a single cycle of random order, by Sattolo's shuffle, so
// that each load depends on the one before.
func cycle(n int) []line {
	lines := make([]line, n)
	for i := range lines {
		lines[i].next = uint32(i)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := n - 1; i > 0; i-- {
		j := random.IntN(i)
		lines[i].next, lines[j].next = lines[j].next, lines[i].next
	}
	return lines
}

// follow makes n steps from line at.
func follow(lines []line, at uint32, n int) uint32 {
	for range n {
		at = lines[at].next
	}
	return at
}

// chaseUntil follows lines until it receives from done. It returns the time of a
// step in nanoseconds, and what it received.
func chaseUntil(lines []line, done <-chan error) (float64, error) {
	const batch = 1000
	start, at := time.Now(), uint32(0)
	for n := batch; ; n += batch {
		at = follow(lines, at, batch)
		select {
		case err := <-done:
			return nanoseconds(time.Since(start)) / float64(n), err
		default:
		}
	}
}

// timed returns the time in nanoseconds of each of the n operations of f.
func timed(n int, f func()) float64 {
	start := time.Now()
	f()
	return nanoseconds(time.Since(start)) / float64(n)
}

// newReadFile returns a memfd of size bytes, all of them written.
func newReadFile(size uint64) (*os.File, error) {
	fd, err := unix.MemfdCreate("neighbour", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "neighbour")
	for chunk, off := make([]byte, 1<<20), uint64(0); off < size; off += uint64(len(chunk)) {
		if _, err := f.WriteAt(chunk, int64(off)); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return f, nil
}

// readRandom reads n random cache lines of a file of size bytes. It returns the time
// of a read in nanoseconds.
func readRandom(f *os.File, size uint64, n int) (float64, error) {
	random := rand.New(rand.NewPCG(3, 4))
	var b [64]byte
	var err error
	fd := int(f.Fd())
	each := timed(n, func() {
		for range n {
			if _, err = unix.Pread(fd, b[:], int64(random.Uint64N(size/64)*64)); err != nil {
				return
			}
		}
	})
	return each, os.NewSyscallError("pread", err)
}
