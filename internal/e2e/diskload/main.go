// Diskload is for tests. It runs in a guest, loads a disk or a file system on one, and
// checks what comes back.
//
//	diskload mix DEVICE       mixed requests; prints the SHA-256 of the device after them
//	diskload write DIR FROM   writes files from number FROM on, and says which are flushed
//	diskload check DIR LAST   checks the files that were flushed up to number LAST
//	diskload speed NAME FILE  times requests to a file or a device; NAME is for its output
package main

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println("diskload:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "mix":
		return mix(args[1], os.Stdout)
	case len(args) == 3 && args[0] == "speed":
		return speed(args[1], args[2], os.Stdout)
	case len(args) == 3 && (args[0] == "write" || args[0] == "check"):
		n, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		if args[0] == "check" {
			return check(args[1], n)
		}
		for ; ; n++ {
			if err := write(args[1], n); err != nil {
				return err
			}
			fmt.Println("flushed", n)
		}
	}
	return errors.New("usage: diskload mix DEVICE | write DIR FROM | check DIR LAST | speed NAME FILE")
}

const (
	block   = 4096
	most    = 32 // blocks of a request: 128 KiB
	workers = 4
	steps   = 250 // requests of a worker
)

// fill fills a block with what only this block has after its write number n. After
// write 0 it is zeros.
func fill(b []byte, at int64, n uint32) {
	if n == 0 {
		clear(b)
		return
	}
	r := rand.NewPCG(uint64(at), uint64(n))
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
}

// device is a disk, and how often each of its blocks was written.
type device struct {
	name    string
	writes  []uint32
	summary [4]int // writes, reads, flushes, zeros
	mu      sync.Mutex
}

// mix makes requests of several kinds and sizes at once, past the guest's page cache and
// through it. Each worker has a part of the device.
func mix(name string, out io.Writer) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	d := &device{name: name, writes: make([]uint32, size/block)}
	errs := make(chan error, workers)
	for i := range workers {
		go func() { errs <- d.work(i) }()
	}
	for range workers {
		err = errors.Join(err, <-errs)
	}
	if err != nil {
		return err
	}
	sum, err := d.check()
	if err != nil {
		return err
	}
	s := d.summary
	_, err = fmt.Fprintf(out, "mix: %d writes, %d reads, %d flushes, %d of zeros\nsha256: %x\n", s[0], s[1], s[2], s[3], sum)
	return err
}

// open opens the device, past the page cache if direct is set.
func (d *device) open(direct bool) (*os.File, error) {
	flags := os.O_RDWR
	if direct {
		flags |= unix.O_DIRECT
	}
	return os.OpenFile(d.name, flags, 0)
}

// buffer is aligned for O_DIRECT.
func buffer() ([]byte, error) {
	return unix.Mmap(-1, 0, most*block, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
}

func (d *device) work(i int) error {
	f, err := d.open(i%2 == 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := buffer()
	if err != nil {
		return err
	}
	part := len(d.writes) / workers
	writes := d.writes[i*part:][:part]
	r := rand.New(rand.NewPCG(uint64(i), 0))
	var count [4]int
	for range steps {
		n := 1 + r.IntN(most)
		if r.IntN(2) == 0 {
			n = 1
		}
		first := r.IntN(part - n + 1)
		at := int64(i*part + first)
		b, here := b[:n*block], writes[first:][:n]
		switch what := r.IntN(100); {
		case what < 45:
			count[0]++
			for k := range here {
				here[k]++
				fill(b[k*block:][:block], at+int64(k), here[k])
			}
			_, err = f.WriteAt(b, at*block)
		case what < 90:
			count[1]++
			err = d.read(f, b, at)
		case what < 95:
			count[2]++
			err = f.Sync()
		default:
			count[3]++
			clear(here)
			mode := uint32(unix.FALLOC_FL_ZERO_RANGE)
			if what%2 == 0 {
				mode = unix.FALLOC_FL_PUNCH_HOLE
			}
			err = unix.Fallocate(int(f.Fd()), mode|unix.FALLOC_FL_KEEP_SIZE, at*block, int64(len(b)))
		}
		if err != nil {
			return fmt.Errorf("%d blocks at %d: %w", n, at, err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, n := range count {
		d.summary[i] += n
	}
	return f.Sync()
}

// read reads blocks from block at on, and checks them.
func (d *device) read(f *os.File, b []byte, at int64) error {
	if _, err := f.ReadAt(b, at*block); err != nil {
		return err
	}
	want := make([]byte, block)
	for k := 0; k < len(b); k += block {
		here := at + int64(k/block)
		if fill(want, here, d.writes[here]); string(b[k:k+block]) != string(want) {
			return fmt.Errorf("block %d isn't what was written to it last, in write %d", here, d.writes[here])
		}
	}
	return nil
}

// check checks all blocks, as the device has them.
func (d *device) check() ([]byte, error) {
	f, err := d.open(true)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := buffer()
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	for at := 0; at < len(d.writes); at += most {
		b := b[:min(most, len(d.writes)-at)*block]
		if err := d.read(f, b, int64(at)); err != nil {
			return nil, err
		}
		h.Write(b)
	}
	return h.Sum(nil), nil
}

// files is how many files there are. File number n replaces number n - files.
const files = 40

func path(dir string, n int) string { return filepath.Join(dir, fmt.Sprint("f", n%files)) }

// content is what file number n has.
func content(n int) []byte {
	b := make([]byte, block*(n%16+1))
	fill(b, int64(n), 1)
	binary.LittleEndian.PutUint64(b, uint64(n))
	return b[:len(b)-n%100]
}

// write writes file number n, and returns when it must survive.
func write(dir string, n int) error {
	name := path(dir, n)
	f, err := os.Create(name + ".new")
	if err != nil {
		return err
	}
	_, err = f.Write(content(n))
	if err := errors.Join(err, f.Sync(), f.Close(), os.Rename(name+".new", name)); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// check checks that each file is whole, and is what was flushed up to number last or a
// newer one.
func check(dir string, last int) error {
	for n := max(0, last-files+1); n <= last; n++ {
		b, err := os.ReadFile(path(dir, n))
		if err != nil {
			return err
		}
		if len(b) < 8 {
			return fmt.Errorf("file %d has %d bytes", n, len(b))
		}
		got := int(binary.LittleEndian.Uint64(b))
		if got < n || got%files != n%files || string(b) != string(content(got)) {
			return fmt.Errorf("file %d isn't whole, or is the older %d", n, got)
		}
	}
	fmt.Println("checked up to", last)
	return nil
}
