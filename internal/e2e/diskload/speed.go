package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// kind is what speed measures: requests of one kind and size, one after the other.
type kind struct {
	name   string
	size   int // bytes of a request
	count  int // requests
	write  bool
	random bool
}

// Few enough for a guest in an emulated machine, where a request takes milliseconds.
var kinds = []kind{
	{name: "read-128k", size: 128 << 10, count: 64},
	{name: "write-128k", size: 128 << 10, count: 64, write: true},
	{name: "read-4k", size: 4 << 10, count: 200, random: true},
	{name: "write-4k", size: 4 << 10, count: 200, write: true, random: true},
}

// speed prints a line for each kind of request to a file or a device: its name and
// the nanoseconds for a request. The file is opened with O_DIRECT, so that the guest's
// page cache answers none of them.
func speed(what, path string, out io.Writer) error {
	// With one processor, Go's runtime takes it away at each system call, and that costs
	// more than the request.
	runtime.GOMAXPROCS(2)
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	b, err := buffer()
	if err != nil {
		return err
	}
	for _, k := range kinds {
		took, err := k.measure(f, b[:k.size], size)
		if err != nil {
			return fmt.Errorf("%s %s: %w", what, k.name, err)
		}
		if _, err := fmt.Fprintf(out, "speed: %s-%s %d\n", what, k.name, took.Nanoseconds()/int64(k.count)); err != nil {
			return err
		}
	}
	return nil
}

// measure makes the requests, and some before them that aren't timed.
func (k kind) measure(f *os.File, b []byte, size int64) (time.Duration, error) {
	places := size / int64(k.size)
	if places == 0 {
		return 0, fmt.Errorf("a file of %d bytes has no room for a request", size)
	}
	for at := 0; at < len(b); at += block {
		fill(b[at:][:block], int64(at), 1)
	}
	r := rand.New(rand.NewPCG(uint64(k.size), 0))
	const warmUp = 8
	var start time.Time
	for i := range int64(warmUp + k.count) {
		if i == warmUp {
			start = time.Now()
		}
		at := i % places
		if k.random {
			at = r.Int64N(places)
		}
		var err error
		if k.write {
			_, err = f.WriteAt(b, at*int64(k.size))
		} else {
			_, err = f.ReadAt(b, at*int64(k.size))
		}
		if err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}
