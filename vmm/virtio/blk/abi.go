package blk

// The part of virtio 1.2 §5.2 that is used here. A test holds it against the kernel's
// header linux/virtio_blk.h.

const deviceID = 2 // §5.2.1

// sector is the unit of offsets and sizes in requests, in bytes (§5.2.4).
const sector = 512

// Feature bits, §5.2.3.
const (
	featSizeMax     = 1
	featSegMax      = 2
	featRO          = 5
	featBlkSize     = 6
	featFlush       = 9
	featTopology    = 10
	featDiscard     = 13
	featWriteZeroes = 14
)

// Types of requests, §5.2.6.
const (
	typeIn          = 0
	typeOut         = 1
	typeFlush       = 4
	typeGetID       = 8
	typeDiscard     = 11
	typeWriteZeroes = 13
)

const (
	headerSize  = 16 // type, reserved, sector: struct virtio_blk_outhdr
	segmentSize = 16 // struct virtio_blk_discard_write_zeroes
	idSize      = 20 // VIRTIO_BLK_ID_BYTES

	flagUnmap = 1 // of a segment
)

// status is the last byte of every request, §5.2.6.
type status byte

const (
	statusOK      status = 0
	statusIOErr   status = 1
	statusUnsupp  status = 2
	statusPending status = 0xff // of this package: the request isn't done
)

// config is struct virtio_blk_config, §5.2.4.
type config struct {
	Capacity               uint64 // sectors
	SizeMax                uint32 // bytes
	SegMax                 uint32
	Cylinders              uint16
	Heads, Sectors         uint8
	BlkSize                uint32 // bytes
	PhysicalBlockExp       uint8
	AlignmentOffset        uint8
	MinIOSize              uint16 // blocks
	OptIOSize              uint32 // blocks
	Writeback              uint8
	_                      uint8
	NumQueues              uint16
	MaxDiscardSectors      uint32
	MaxDiscardSeg          uint32
	DiscardSectorAlignment uint32
	MaxWriteZeroesSectors  uint32
	MaxWriteZeroesSeg      uint32
	WriteZeroesMayUnmap    uint8
	_                      [3]uint8
}
