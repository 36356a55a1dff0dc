package blk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"offmap/memory"
	"offmap/vmm/virtio"
)

// maxWorkers is the most requests of a queue that wait for the host at once.
const maxWorkers = 16

// errShape is the error of a request to which there can be no answer.
var errShape = errors.New("request without room for its header and status")

// server serves a virtqueue. Its own goroutine takes the requests and does those that
// only copy memory. Workers do the others, and complete them in any order.
type server struct {
	disk    *Disk
	queue   *virtio.Queue
	guest   memory.Guest
	through bool // the driver doesn't flush, so each write is made durable

	work    chan request // has room for every request that can be in flight
	idle    atomic.Int32 // workers that wait for a request
	workers int
	running sync.WaitGroup
	failed  atomic.Pointer[error] // the first error of Done

	header [headerSize]byte
}

// request is a request, parsed.
type request struct {
	chain *virtio.Chain
	kind  uint32
	off   int64         // bytes: where buf begins on the disk
	buf   memory.Ranges // the data that is still to move
	moved uint64        // bytes that have moved before
}

// Serve implements virtio.Device.
func (d *Disk) Serve(_ int, q *virtio.Queue, features uint64) error {
	s := &server{
		disk: d, queue: q, guest: q.Guest(), through: features&(1<<featFlush) == 0,
		work: make(chan request, queueSize),
	}
	defer s.running.Wait()
	defer close(s.work)
	for {
		c, err := q.Next()
		if err == nil {
			err = s.handle(c)
		}
		if failed := s.failed.Load(); failed != nil && err == nil {
			err = *failed
		}
		switch {
		case errors.Is(err, virtio.ErrStopped):
			return nil
		case err != nil:
			return err
		}
	}
}

// handle takes a request. It does it at once, or hands it to a worker.
func (s *server) handle(c *virtio.Chain) error {
	if c.Readable.Size() < headerSize || c.Writable.Size() < 1 {
		return errShape
	}
	if err := c.Readable.CopyOut(s.guest, s.header[:]); err != nil {
		return err
	}
	r := request{chain: c, kind: binary.LittleEndian.Uint32(s.header[:])}
	st := s.parse(&r, binary.LittleEndian.Uint64(s.header[8:]))
	if st == statusPending {
		st = s.try(&r)
	}
	if st == statusPending {
		s.hand(r)
		return nil
	}
	return s.finish(&r, st)
}

// parse checks a request, and finds its data. The status is statusPending if the
// request is to be done.
func (s *server) parse(r *request, at uint64) status {
	d := s.disk
	switch r.kind {
	case typeIn:
		r.buf, _ = r.chain.Writable.Cut(r.chain.Writable.Size() - 1)
		return d.place(r, at)
	case typeOut:
		_, r.buf = r.chain.Readable.Cut(headerSize)
		if d.readOnly {
			return statusIOErr // §5.2.6.2
		}
		return d.place(r, at)
	case typeFlush:
		return statusPending
	case typeGetID:
		return s.id(r)
	case typeDiscard, typeWriteZeroes:
		_, r.buf = r.chain.Readable.Cut(headerSize)
		if d.readOnly {
			return statusIOErr
		}
		return statusPending
	}
	return statusUnsupp
}

// place checks where the data of a read or write is on the disk.
func (d *Disk) place(r *request, at uint64) status {
	n := r.buf.Size()
	if n > maxData || n%sector != 0 || !d.contains(at, n/sector) {
		return statusIOErr
	}
	r.off = int64(at) * sector
	return statusPending
}

// contains reports whether n sectors from at on are on the disk.
func (d *Disk) contains(at, n uint64) bool {
	sectors := uint64(d.size) / sector
	return at <= sectors && n <= sectors-at
}

// id answers with the name of the image, §5.2.6.1: it isn't terminated if it takes
// all of the 20 bytes.
func (s *server) id(r *request) status {
	buf, _ := r.chain.Writable.Cut(r.chain.Writable.Size() - 1)
	n := min(buf.Size(), idSize)
	if err := buf.CopyIn(s.guest, s.disk.id[:n]); err != nil {
		return s.disk.failed("write of the disk's name", err)
	}
	r.moved = n
	return statusOK
}

// try does as much of a request as it can without waiting for the host.
func (s *server) try(r *request) status {
	switch r.kind {
	case typeIn, typeOut:
		if s.through && r.kind == typeOut {
			return statusPending
		}
		return s.transfer(r, false)
	}
	return statusPending
}

// do does the rest of a request. It may use table.
func (s *server) do(r *request, table *segmentTable) status {
	switch r.kind {
	case typeFlush:
		return s.disk.failed("flush", s.disk.store.flush())
	case typeIn, typeOut:
		st := s.transfer(r, true)
		if st == statusOK && s.through && r.kind == typeOut {
			st = s.disk.failed("flush", s.disk.store.flush())
		}
		return st
	}
	return s.segments(r, table)
}

// transfer moves the data of a read or write.
func (s *server) transfer(r *request, wait bool) status {
	move, name := s.disk.store.read, "read"
	if r.kind == typeOut {
		move, name = s.disk.store.write, "write"
	}
	n, err := move(s.guest, r.buf, r.off, wait)
	r.moved += n
	if !wait && errors.Is(err, unix.EAGAIN) {
		_, r.buf = r.buf.Cut(n)
		r.off += int64(n)
		return statusPending
	}
	return s.disk.failed(name, err)
}

// segments does a discard or a write of zeros, §5.2.6.2. It checks all segments
// before it changes anything.
func (s *server) segments(r *request, table *segmentTable) status {
	d := s.disk
	name, segs, sectors, flags := "discard", maxDiscardSegs, uint32(maxDiscard), uint32(0)
	if r.kind == typeWriteZeroes {
		name, segs, sectors, flags = "write of zeros", maxZeroSegs, maxZero, flagUnmap
	}
	n := r.buf.Size()
	if n == 0 || n%segmentSize != 0 || n > uint64(segs*segmentSize) {
		return statusIOErr
	}
	if err := r.buf.CopyOut(s.guest, table[:n]); err != nil {
		return d.failed(name, err)
	}
	for at := 0; at < int(n); at += segmentSize {
		g := segmentAt(table[at:])
		if g.flags&^flags != 0 {
			return statusUnsupp
		}
		if g.n > sectors || !d.contains(g.at, uint64(g.n)) {
			return statusIOErr
		}
	}
	for at := 0; at < int(n); at += segmentSize {
		g := segmentAt(table[at:])
		if g.n == 0 {
			continue
		}
		off, n := int64(g.at)*sector, int64(g.n)*sector
		var err error
		if r.kind == typeDiscard {
			err = d.store.discard(off, n)
		} else {
			err = d.store.zero(off, n, g.flags&flagUnmap != 0)
		}
		if err != nil {
			return d.failed(name, err)
		}
	}
	if s.through {
		return d.failed("flush", d.store.flush())
	}
	return statusOK
}

// segment is struct virtio_blk_discard_write_zeroes.
type segment struct {
	at       uint64
	n, flags uint32
}

// segmentTable has room for a request's segments.
type segmentTable [maxDiscardSegs * segmentSize]byte

func segmentAt(b []byte) segment {
	return segment{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])}
}

// hand gives a request to a worker.
func (s *server) hand(r request) {
	if int(s.idle.Load()) <= len(s.work) && s.workers < maxWorkers {
		s.workers++
		s.running.Go(s.worker)
	}
	s.work <- r
}

func (s *server) worker() {
	var table segmentTable
	for {
		s.idle.Add(1)
		r, ok := <-s.work
		s.idle.Add(-1)
		if !ok {
			return
		}
		select {
		case <-s.queue.Stopped():
			continue
		default:
		}
		if err := s.finish(&r, s.do(&r, &table)); err != nil {
			s.fail(err)
		}
	}
}

// fail has Serve return err, at the next request.
func (s *server) fail(err error) { s.failed.CompareAndSwap(nil, &err) }

// answers are the statuses as bytes to copy.
var answers = [...][]byte{statusOK: {byte(statusOK)}, statusIOErr: {byte(statusIOErr)}, statusUnsupp: {byte(statusUnsupp)}}

// finish writes the status, and gives the request back to the driver.
func (s *server) finish(r *request, st status) error {
	w := r.chain.Writable
	last := w[len(w)-1]
	if _, err := s.guest.WriteAt(answers[st], last.GPA+memory.GPA(last.Size)-1); err != nil {
		return fmt.Errorf("status of a request: %w", err)
	}
	s.disk.count(r)
	// The driver may rely on the first bytes only (§2.7.8.2): the status counts
	// if there is no gap before it.
	var written uint64
	if r.kind == typeIn || r.kind == typeGetID {
		written = r.moved
	}
	if written == w.Size()-1 {
		written++
	}
	return s.queue.Done(r.chain, uint32(written))
}
