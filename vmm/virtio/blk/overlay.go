package blk

import (
	"errors"
	"math/bits"
	"sync/atomic"

	"offmap/memory"
)

// overlay is a disk whose writes go to a file of its own. The image below is only
// read. Requests are whole sectors, so no part of the image is ever copied up.
type overlay struct {
	image, own store
	written    bitmap // which sectors are in own
}

func newOverlay(image, own store, size int64) *overlay {
	return &overlay{image: image, own: own, written: make(bitmap, (size/sector+63)/64)}
}

func (o *overlay) read(g memory.Guest, buf memory.Ranges, off int64, wait bool) (done uint64, err error) {
	for left := int64(buf.Size()); left > 0; {
		n, own := o.written.run(off/sector, left/sector)
		from := o.image
		if own {
			from = o.own
		}
		part, rest := buf, memory.Ranges(nil)
		if n*sector < left {
			part, rest = buf.Cut(uint64(n * sector))
		}
		k, err := from.read(g, part, off, wait)
		done += k
		if err != nil {
			return done, err
		}
		buf, off, left = rest, off+n*sector, left-n*sector
	}
	return done, nil
}

func (o *overlay) write(g memory.Guest, buf memory.Ranges, off int64, wait bool) (uint64, error) {
	done, err := o.own.write(g, buf, off, wait)
	o.written.set(off/sector, int64(done/sector))
	return done, err
}

func (o *overlay) zero(off, n int64, _ bool) error {
	err := o.own.zero(off, n, true)
	if err == nil {
		o.written.set(off/sector, n/sector)
	}
	return err
}

func (o *overlay) discard(off, n int64) error { return o.zero(off, n, true) }

// flush has nothing to do: nothing of the overlay outlives the VMM.
func (o *overlay) flush() error { return nil }

func (o *overlay) close() error { return errors.Join(o.own.close(), o.image.close()) }

// bitmap has a bit for each sector. The kernel gives it memory where a bit is set.
type bitmap []atomic.Uint64

// run returns how many of the n bits from i on are alike, and what they are.
func (b bitmap) run(i, n int64) (length int64, set bool) {
	set = b[i/64].Load()>>(i%64)&1 != 0
	for length < n {
		at := i + length
		word := b[at/64].Load()
		if set {
			word = ^word
		}
		same := min(int64(bits.TrailingZeros64(word>>(at%64))), 64-at%64)
		length += same
		if at%64+same < 64 {
			break
		}
	}
	return min(length, n), set
}

// set sets n bits from i on.
func (b bitmap) set(i, n int64) {
	for end := i + n; i < end; {
		k := min(64-i%64, end-i)
		b[i/64].Or(^uint64(0) >> (64 - k) << (i % 64))
		i += k
	}
}
