package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"offmap/internal/measure/bench/baseline"
	"offmap/memory"
	"offmap/memory/uffd"
)

// userfaultScenarios measure the round trip of a fault that another thread answers,
// without a guest or a pager.
func userfaultScenarios() []Scenario {
	return []Scenario{{
		Name: "userfault",
		About: "a system call that accesses a missing page, for which another thread provides a page of zeros: " +
			"of a memfd with UFFDIO_CONTINUE, as the window does; of anonymous memory with UFFDIO_COPY (C only); c is the same in C",
		Metrics: []Metric{{Name: "continue", Unit: "ns/fault"}, {Name: "copy", Unit: "ns/fault"}},
		Subjects: func(e *Env, working []Subject) []Subject {
			s := behindWindow(e, working)
			if len(s) == 0 {
				return nil
			}
			return e.withBaseline(s, memory.Memfd)
		},
		Sample: func(ctx context.Context, e *Env, s Subject) ([]float64, error) {
			faults := e.pick(2000, 10000)
			if s.Peer == C {
				return baselineUserfault(ctx, e, faults)
			}
			each, err := userfault(faults)
			return []float64{each, math.NaN()}, err
		},
	}}
}

func baselineUserfault(ctx context.Context, e *Env, faults uint64) ([]float64, error) {
	var values []float64
	for _, how := range []string{"continue", "copy"} {
		v, err := baseline.Run(ctx, e.Baseline, "fault", how, strconv.FormatUint(faults, 10))
		if err != nil {
			return nil, err
		}
		values = append(values, v[0])
	}
	return values, nil
}

// userfault takes faults one by one. It returns the time of each in nanoseconds.
func userfault(faults uint64) (each float64, err error) {
	size := faults * memory.PageSize
	fd, err := unix.MemfdCreate("userfault", unix.MFD_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("memfd_create: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return 0, fmt.Errorf("ftruncate to %d bytes: %w", size, err)
	}
	zero, err := os.Open("/dev/zero")
	if err != nil {
		return 0, err
	}
	defer zero.Close()
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("eventfd: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Close(stop)) }()
	mem, err := unix.Mmap(fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return 0, fmt.Errorf("mmap of %d bytes: %w", size, err)
	}
	defer func() { err = errors.Join(err, unix.Munmap(mem)) }()
	r, err := uffd.Open(uintptr(unsafe.Pointer(unsafe.SliceData(mem))), size)
	if err != nil {
		return 0, err
	}

	answered := make(chan error, 1)
	go func() {
		// After an error nobody answers faults any more: closing the
		// descriptor wakes the threads that wait.
		err := answer(r, fd, stop)
		answered <- errors.Join(err, r.Close())
	}()
	// The kernel accesses the page, not Go code: see package uffd.
	start := time.Now()
	for off := uint64(0); off < size && err == nil; off += memory.PageSize {
		_, err = unix.Read(int(zero.Fd()), mem[off:off+1])
	}
	took := time.Since(start)
	_, werr := unix.Write(stop, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	return nanoseconds(took) / float64(faults), errors.Join(err, werr, <-answered)
}

// answer fills and maps a page for each fault, until stop is readable.
func answer(r *uffd.Range, fd, stop int) error {
	var faults uffd.Faults
	page := make([]byte, memory.PageSize)
	for {
		if stopped, err := r.Wait(stop); stopped || err != nil {
			return err
		}
		if err := r.Read(&faults); err != nil {
			return err
		}
		for i := range faults.Len() {
			off, ok := r.At(&faults, i)
			if !ok {
				continue
			}
			if _, err := unix.Pwrite(fd, page, int64(off)); err != nil {
				return os.NewSyscallError("pwrite", err)
			}
			if err := r.Continue(off, memory.PageSize); err != nil {
				return err
			}
		}
	}
}
