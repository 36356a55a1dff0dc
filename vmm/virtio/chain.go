package virtio

import (
	"encoding/binary"
	"errors"
	"fmt"

	"offmap/memory"
)

// Chain is a request: a descriptor chain, copied and checked. All of it is guest
// RAM, no piece is empty, and its size is at most 4 GiB. The guest can still change
// what is in that RAM.
type Chain struct {
	Readable memory.Ranges // what the device reads
	Writable memory.Ranges // what the device writes

	pieces   memory.Ranges // backs both
	readable int           // pieces of Readable
	writable uint64        // bytes of Writable
	head     uint16        // the first descriptor's index
	busy     bool          // Next has returned it, Done hasn't had it yet
}

// What is wrong with a chain.
var (
	errLoop      = errors.New("more descriptors than the queue has: a loop")
	errIndex     = errors.New("no such descriptor")
	errIndirect  = errors.New("indirect, which was not negotiated")
	errNested    = errors.New("indirect in an indirect table")
	errContinued = errors.New("indirect, and not the last of its chain")
	errOrder     = errors.New("device-readable after device-writable")
	errEmpty     = errors.New("empty")
	errTotal     = errors.New("chain of more than 4 GiB")
)

// maxChain is the most bytes of a chain (§2.7.5).
const maxChain = 1 << 32

// table is a descriptor table, the queue's or an indirect one. It reads several
// descriptors at a time, of which each is used once.
type table struct {
	gpa   memory.GPA
	n     int // descriptors
	batch int // descriptors read at a time
	from  int // the first one in the buffer
	have  int
}

// Descriptors read at a time. A request has three or four as a rule, one after the
// other. An indirect table is all one request's.
const (
	directBatch   = 4
	indirectBatch = 32
)

type descriptor struct {
	gpa         memory.GPA
	len         uint32
	flags, next uint16
}

// read returns descriptor i. buf has room for a batch.
func (t *table) read(g memory.Guest, buf *[indirectBatch * descSize]byte, i int) (d descriptor, err error) {
	if i >= t.n {
		return d, errIndex
	}
	if i < t.from || i >= t.from+t.have {
		t.from, t.have = i, min(t.batch, t.n-i)
		if _, err := g.ReadAt(buf[:t.have*descSize], t.gpa+memory.GPA(i)*descSize); err != nil {
			return d, err
		}
	}
	b := buf[(i-t.from)*descSize:][:descSize]
	return descriptor{
		gpa:   memory.GPA(binary.LittleEndian.Uint64(b)),
		len:   binary.LittleEndian.Uint32(b[8:]),
		flags: binary.LittleEndian.Uint16(b[12:]),
		next:  binary.LittleEndian.Uint16(b[14:]),
	}, nil
}

// parse copies the chain that starts with descriptor head to c.
func (q *Queue) parse(c *Chain, head uint16) error {
	c.head, c.readable, c.writable, c.pieces = head, 0, 0, c.pieces[:0]
	t := table{gpa: q.rings.Desc, n: q.rings.Size, batch: directBatch}
	var indirect bool
	var total uint64
	for i := int(head); ; {
		d, err := t.read(q.guest, &q.descs, i)
		switch {
		case err != nil:
		case d.flags&descIndirect != 0:
			if t, err = q.indirect(d, indirect); err == nil {
				i, indirect = 0, true
				continue
			}
		default:
			total += uint64(d.len)
			if err = q.add(c, d); err == nil && total > maxChain {
				err = errTotal
			}
		}
		if err != nil {
			return fmt.Errorf("chain at descriptor %d: descriptor %d: %w", head, i, err)
		}
		if d.flags&descNext == 0 {
			break
		}
		i = int(d.next)
	}
	c.Readable = c.pieces[:c.readable:c.readable]
	c.Writable = c.pieces[c.readable:]
	return nil
}

// indirect checks a descriptor that refers to an indirect table (§2.7.5.3).
func (q *Queue) indirect(d descriptor, nested bool) (table, error) {
	n := int(d.len / descSize)
	switch {
	case nested:
		return table{}, errNested
	case q.features&IndirectDesc == 0:
		return table{}, errIndirect
	case d.flags&descNext != 0:
		return table{}, errContinued
	case n == 0 || d.len%descSize != 0 || n > q.limit:
		return table{}, fmt.Errorf("indirect table of %d bytes: not 1 to %d descriptors of %d bytes", d.len, q.limit, descSize)
	case !q.layout.Contains(d.gpa, uint64(d.len)):
		return table{}, fmt.Errorf("indirect table of %d bytes at %s: %w", d.len, d.gpa, memory.ErrHole)
	}
	return table{gpa: d.gpa, n: n, batch: indirectBatch}, nil
}

// add appends the buffer of a descriptor to a chain. Since each descriptor has one, and
// at most one refers to a table, no chain is followed for ever.
func (q *Queue) add(c *Chain, d descriptor) error {
	switch {
	case len(c.pieces) == q.limit:
		return errLoop
	case d.len == 0:
		return errEmpty
	case !q.layout.Contains(d.gpa, uint64(d.len)):
		return fmt.Errorf("%d bytes at %s: %w", d.len, d.gpa, memory.ErrHole)
	case d.flags&descWrite != 0:
		c.writable += uint64(d.len)
	case c.writable > 0:
		return errOrder
	default:
		c.readable++
	}
	c.pieces = append(c.pieces, memory.Range{GPA: d.gpa, Size: d.len})
	return nil
}
