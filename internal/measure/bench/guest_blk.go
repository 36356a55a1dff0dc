package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"offmap/guest/payload"
	"offmap/internal/measure/bench/baseline"
	"offmap/memory"
	"offmap/vmm/virtio"
	"offmap/vmm/virtio/blk"
)

// diskRAM is the RAM of a guest that drives a disk, in bytes. Its window, if it has
// one, holds the buffers of all requests.
const diskRAM = 64 << 20

// diskLoad is a load for the payload blk, or for the C baseline.
type diskLoad struct {
	name  string
	what  uint64 // payload.BlkWrite and others
	size  uint64 // bytes of a request
	depth uint64 // requests in flight
	quick uint64 // requests in a quick run,
	full  uint64 // and in others
}

// The last one writes all of the disk.
var diskLoads = []diskLoad{
	{"read-128k", 0, 128 << 10, 32, 1024, 4096},
	{"read-4k-random", payload.BlkRandom, 4 << 10, 32, 16 << 10, 64 << 10},
	{"read-4k-one", payload.BlkRandom, 4 << 10, 1, 512, 4096},
	{"write-4k-random", payload.BlkRandom | payload.BlkWrite, 4 << 10, 32, 16 << 10, 64 << 10},
	{"write-128k", payload.BlkWrite, 128 << 10, 32, 1024, 4096},
}

// diskScenarios measure a virtio disk.
func diskScenarios() []Scenario {
	sc := Scenario{
		Name: "blk",
		About: "a virtio disk on a file in the page cache, driven at CPL 3 by a guest that polls: reads and writes of 128 KiB in sequence and of 4 KiB at random, 32 in flight, and one (" +
			"read-4k-one) to have the time until the device takes notice; c makes the same preadv and pwritev calls in a loop",
		Slow: true,
		Subjects: func(e *Env, working []Subject) []Subject {
			return e.withBaseline(working, memory.Anon, memory.Secret)
		},
		Sample: sampleDisk,
	}
	for _, l := range diskLoads {
		m := Metric{Name: l.name, Unit: "ns/op"}
		if l.size > 4<<10 {
			m.Unit, m.More = "B/s", true
		}
		sc.Metrics = append(sc.Metrics, m)
	}
	return []Scenario{sc}
}

// sampleDisk runs all loads on a new file. It starts with the pattern, and a guest
// checks that first. The last load leaves zeros.
func sampleDisk(ctx context.Context, e *Env, s Subject) (values []float64, err error) {
	size := e.pick(64<<20, 256<<20)
	image, err := patternFile(size)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.Remove(image)) }()
	if s.Peer != C {
		check := diskLoad{what: payload.BlkVerify | payload.BlkRandom, size: 4 << 10, depth: 32}
		if _, err := check.inGuest(ctx, s, image, 512); err != nil {
			return nil, err
		}
	}
	for _, l := range diskLoads {
		run := l.inGuest
		if s.Peer == C {
			run = func(ctx context.Context, s Subject, image string, n uint64) (float64, error) {
				return l.inC(ctx, e, s, image, n)
			}
		}
		ns, err := run(ctx, s, image, e.pick(l.quick, l.full))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.name, err)
		}
		if l.size > 4<<10 {
			ns = float64(l.size) / ns * 1e9
		}
		values = append(values, ns)
	}
	return values, zeroFile(image)
}

// inGuest runs the load in a new guest, and returns the nanoseconds of a request.
func (l diskLoad) inGuest(ctx context.Context, s Subject, image string, n uint64) (float64, error) {
	disk, err := blk.Open(image, blk.Options{})
	if err != nil {
		return 0, err
	}
	r, err := payloadGuest{
		payload: "blk", args: []uint64{l.what, l.size, n, l.depth}, cpus: 1, size: diskRAM, native: true,
		devices: []virtio.Device{disk},
	}.run(ctx, s)
	if err != nil {
		return 0, err
	}
	var requests, size, cycles, speed uint64
	if err := scan(r.Said, payload.BlkReport, &requests, &size, &cycles, &speed); err != nil {
		return 0, err
	}
	kind, moved := "read", r.Devices[0].ReadBytes
	if l.what&payload.BlkWrite != 0 {
		kind, moved = "write", r.Devices[0].WrittenBytes
	}
	made := n + l.depth // with those to warm up
	if requests != n || size != l.size || r.Devices[0].Requests[kind] != made || moved != made*size {
		return 0, fmt.Errorf("payload blk said %.200q, and the disk has %d bytes of %d requests", r.Said, moved, r.Devices[0].Requests[kind])
	}
	return r.nanoseconds(cycles) / float64(n), r.possible(cycles)
}

// inC runs the load in the C baseline.
func (l diskLoad) inC(ctx context.Context, e *Env, s Subject, image string, n uint64) (float64, error) {
	kind, order := "read", "sequence"
	if l.what&payload.BlkWrite != 0 {
		kind = "write"
	}
	if l.what&payload.BlkRandom != 0 {
		order = "random"
	}
	args := []string{"blk", image, kind, order, string(s.Backend)}
	for _, v := range []uint64{l.size, n, l.depth} {
		args = append(args, strconv.FormatUint(v, 10))
	}
	figures, err := baseline.Run(ctx, e.Baseline, args...)
	if err != nil {
		return 0, err
	}
	if len(figures) != 1 {
		return 0, fmt.Errorf("%s of the C baseline: %d numbers instead of 1", strings.Join(args, " "), len(figures))
	}
	return figures[0], nil
}

// patternFile makes a file with the pattern.
func patternFile(size uint64) (path string, err error) {
	f, err := os.CreateTemp("", "offmap-bench-disk-")
	if err != nil {
		return "", err
	}
	b := make([]byte, 1<<20)
	for at := uint64(0); at < size && err == nil; at += uint64(len(b)) {
		for i := 0; i < len(b); i += 8 {
			binary.LittleEndian.PutUint64(b[i:], payload.BlkPattern(at+uint64(i)))
		}
		_, err = f.Write(b)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), err
}

// zeroFile returns an error if a block of a file isn't what the guest's buffers are.
func zeroFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	var word [8]byte
	for at := int64(0); at < info.Size(); at += memory.PageSize {
		if _, err := f.ReadAt(word[:], at); err != nil {
			return err
		}
		if word != [8]byte{} {
			return fmt.Errorf("the disk has at %d what nobody has written there", at)
		}
	}
	return nil
}
