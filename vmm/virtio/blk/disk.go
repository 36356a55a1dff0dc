package blk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"sync"

	"offmap/vmm/bounce"
	"offmap/vmm/virtio"
)

// Limits that the driver learns from the configuration space.
const (
	queueSize = 256
	segMax    = queueSize - 2 // without header and status
	sizeMax   = 1 << 20       // bytes of a segment
	maxData   = segMax * sizeMax

	maxDiscardSegs = 32
	maxDiscard     = 1 << 30 / sector
	// Zeros may have to be written, where the file system can't do better.
	maxZeroSegs = 1
	maxZero     = 64 << 20 / sector
)

// Disk is a virtio block device. It implements virtio.Device.
type Disk struct {
	path     string
	store    store
	pool     *bounce.Pool // or nil
	size     int64        // bytes
	readOnly bool
	id       [idSize]byte
	// logical and physical are block sizes in bytes: what the file can be read and
	// written in, and what it is best read and written in.
	logical, physical int
	log               func(error)
	counters          *virtio.Counters

	mu     sync.Mutex
	logged map[string]bool
}

// Name implements virtio.Device.
func (d *Disk) Name() string { return "blk" }

// ID implements virtio.Device.
func (d *Disk) ID() uint16 { return deviceID }

// Features implements virtio.Device.
func (d *Disk) Features() uint64 {
	f := uint64(1<<featSizeMax | 1<<featSegMax | 1<<featBlkSize | 1<<featTopology | 1<<featFlush)
	if d.readOnly {
		return f | 1<<featRO
	}
	return f | 1<<featDiscard | 1<<featWriteZeroes
}

// QueueSizes implements virtio.Device.
func (d *Disk) QueueSizes() []int { return []int{queueSize} }

// Config implements virtio.Device.
func (d *Disk) Config() []byte {
	c := config{
		Capacity:         uint64(d.size) / sector,
		SizeMax:          sizeMax,
		SegMax:           segMax,
		BlkSize:          uint32(d.logical),
		PhysicalBlockExp: uint8(bits.TrailingZeros(uint(d.physical / d.logical))),
		MinIOSize:        uint16(d.physical / d.logical),
	}
	if !d.readOnly {
		c.MaxDiscardSectors = maxDiscard
		c.MaxDiscardSeg = maxDiscardSegs
		c.DiscardSectorAlignment = uint32(d.physical / sector)
		c.MaxWriteZeroesSectors = maxZero
		c.MaxWriteZeroesSeg = maxZeroSegs
		c.WriteZeroesMayUnmap = 1
	}
	b, err := binary.Append(nil, binary.LittleEndian, &c)
	if err != nil {
		panic(err) // of the type alone
	}
	return b
}

// Close implements virtio.Device. It ends the lock on the image, and frees the
// overlay.
func (d *Disk) Close() error {
	err := d.store.close()
	if d.pool != nil {
		err = errors.Join(err, d.pool.Close())
	}
	return err
}

// Kinds of requests, for Stats.
const (
	countRead = iota
	countWrite
	countFlush
	countDiscard
	countWriteZeroes
	countOther
)

func newCounters() *virtio.Counters {
	return virtio.NewCounters("read", "write", "flush", "discard", "write-zeroes", "other")
}

// Stats returns what the guest has done with the disk so far.
func (d *Disk) Stats() virtio.Stats {
	s := d.counters.Stats()
	if d.pool != nil {
		s.Exposed, s.ExposedPeak = d.pool.Held()
	}
	return s
}

func (d *Disk) count(r *request) {
	switch r.kind {
	case typeIn:
		d.counters.Count(countRead, r.moved, 0)
	case typeOut:
		d.counters.Count(countWrite, 0, r.moved)
	case typeFlush:
		d.counters.Count(countFlush, 0, 0)
	case typeDiscard:
		d.counters.Count(countDiscard, 0, 0)
	case typeWriteZeroes:
		d.counters.Count(countWriteZeroes, 0, 0)
	default:
		d.counters.Count(countOther, 0, 0)
	}
}

// failed turns the error of a request into its status. It logs the first error of
// each kind of request.
func (d *Disk) failed(what string, err error) status {
	if err == nil {
		return statusOK
	}
	d.mu.Lock()
	first := !d.logged[what]
	if first {
		d.logged[what] = true
	}
	d.mu.Unlock()
	if first && d.log != nil {
		d.log(fmt.Errorf("disk %s: %s failed, and the guest gets an I/O error: %w", d.path, what, err))
	}
	return statusIOErr
}
