package canary

import (
	"context"
	"fmt"
	"io"
	"math"
)

// Range is a part of a source to scan: Len bytes at Off, both multiples of 8.
// Addr is the address of its first byte in Hits: a physical address where the
// source is RAM.
type Range struct {
	Off, Len int64
	Addr     uint64
}

func (r Range) check() error {
	switch {
	case r.Off < 0 || r.Len < 0 || r.Len > math.MaxInt64-r.Off:
		return fmt.Errorf("scan of %d bytes at offset %#x: not a range", r.Len, r.Off)
	case r.Off%step != 0 || r.Len%step != 0:
		return fmt.Errorf("scan of %d bytes at offset %#x: not multiples of %d", r.Len, r.Off, step)
	}
	return nil
}

// Hits are the copies of one canary that a scan found.
type Hits struct {
	Total   int      // copies of the canary
	Pages   int      // 4 KiB pages in which at least one copy starts
	First   []uint64 // addresses of the first few copies
	Scanned int64    // bytes compared; holes of a sparse file are not counted
}

// firstMax bounds Hits.First.
const firstMax = 8

// Progress is called between reads with the bytes scanned and to be scanned.
type Progress func(done, total int64)

// bufSize is how many bytes one read fetches: many pages in a system call, which
// still fit the second-level cache.
const bufSize = 1 << 20

// scanner is one scan's state.
//
// The scanner's buffer is in the RAM that it scans, and so are copies of what it
// has found. So as not to count those, it wipes a chunk with hits and then reads
// each hit again: a copy in the wiped buffer is gone by then, one in guest RAM is
// still there. A scan leaves no copy behind, except where the kernel moved the
// buffer to another page frame meanwhile.
type scanner struct {
	r   io.ReaderAt
	set *set
	// wash overwrites what the source itself buffered of the last read.
	wash     func() error
	progress Progress
	buf      []byte
	found    []match
	hits     []Hits   // of each canary
	page     []uint64 // of each canary's last hit
}

func newScanner(r io.ReaderAt, canaries []Canary, progress Progress) *scanner {
	return &scanner{
		r: r, set: newSet(canaries), progress: progress,
		hits: make([]Hits, len(canaries)), page: make([]uint64, len(canaries)),
	}
}

// Scan looks for canaries in ranges of r, at every multiple of 8 bytes, and
// returns the hits of each. A copy that crosses from one range into the next
// is not found. progress may be nil. The hits so far are returned with an
// error as well.
func Scan(ctx context.Context, r io.ReaderAt, ranges []Range, canaries []Canary, progress Progress) ([]Hits, error) {
	s := newScanner(r, canaries, progress)
	err := s.run(ctx, ranges)
	return s.hits, err
}

func (s *scanner) run(ctx context.Context, ranges []Range) error {
	s.buf = make([]byte, bufSize+Size-step)
	defer clear(s.buf)
	var done, total int64
	for _, rg := range ranges {
		if err := rg.check(); err != nil {
			return err
		}
		total += rg.Len
	}
	for _, rg := range ranges {
		for off := int64(0); off < rg.Len; off += bufSize {
			if err := ctx.Err(); err != nil {
				return err
			}
			// Chunks overlap, so that no copy is cut in two.
			n := min(rg.Len-off, int64(len(s.buf)))
			if err := s.chunk(s.buf[:n], rg.Off+off, rg.Addr+uint64(off)); err != nil {
				return err
			}
			n = min(n, bufSize)
			for i := range s.hits {
				s.hits[i].Scanned += n
			}
			if done += n; s.progress != nil {
				s.progress(done, total)
			}
		}
	}
	return nil
}

// chunk scans len(b) bytes of the source at off, reported as addr.
func (s *scanner) chunk(b []byte, off int64, addr uint64) error {
	if err := s.read(b, off); err != nil {
		return err
	}
	s.found = s.set.find(b, s.found[:0])
	if len(s.found) == 0 {
		return nil
	}
	if err := s.wipe(b); err != nil {
		return err
	}
	b = b[:Size]
	for _, m := range s.found {
		if err := s.read(b, off+int64(m.at)); err != nil {
			return err
		}
		still := s.set.canaries[m.canary].In(b)
		if err := s.wipe(b); err != nil {
			return err
		}
		if still {
			s.add(m.canary, addr+uint64(m.at))
		}
	}
	return nil
}

func (s *scanner) read(b []byte, off int64) error {
	n, err := s.r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %d bytes at offset %#x: %w", len(b), off, err)
}

// wipe clears b and whatever the source holds of it.
func (s *scanner) wipe(b []byte) error {
	clear(b)
	if s.wash == nil {
		return nil
	}
	return s.wash()
}

// add counts a copy of a canary. Addresses ascend within a range, and no two
// ranges share a page.
func (s *scanner) add(canary int, addr uint64) {
	h, last := &s.hits[canary], &s.page[canary]
	if page := addr >> 12; h.Total == 0 || page != *last {
		h.Pages++
		*last = page
	}
	h.Total++
	if len(h.First) < firstMax {
		h.First = append(h.First, addr)
	}
}
