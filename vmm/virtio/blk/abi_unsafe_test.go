package blk

import (
	"testing"
	"unsafe"

	"offmap/internal/abitest"
)

// TestABI holds every number, size and offset against the kernel's own header.
func TestABI(t *testing.T) {
	var c config
	abitest.Compare(t, "#include <linux/virtio_ids.h>\n#include <linux/virtio_blk.h>\n", []abitest.Entry{
		{C: "VIRTIO_ID_BLOCK", Want: deviceID},
		{C: "VIRTIO_BLK_F_SIZE_MAX", Want: featSizeMax},
		{C: "VIRTIO_BLK_F_SEG_MAX", Want: featSegMax},
		{C: "VIRTIO_BLK_F_RO", Want: featRO},
		{C: "VIRTIO_BLK_F_BLK_SIZE", Want: featBlkSize},
		{C: "VIRTIO_BLK_F_FLUSH", Want: featFlush},
		{C: "VIRTIO_BLK_F_TOPOLOGY", Want: featTopology},
		{C: "VIRTIO_BLK_F_DISCARD", Want: featDiscard},
		{C: "VIRTIO_BLK_F_WRITE_ZEROES", Want: featWriteZeroes},
		{C: "VIRTIO_BLK_T_IN", Want: typeIn},
		{C: "VIRTIO_BLK_T_OUT", Want: typeOut},
		{C: "VIRTIO_BLK_T_FLUSH", Want: typeFlush},
		{C: "VIRTIO_BLK_T_GET_ID", Want: typeGetID},
		{C: "VIRTIO_BLK_T_DISCARD", Want: typeDiscard},
		{C: "VIRTIO_BLK_T_WRITE_ZEROES", Want: typeWriteZeroes},
		{C: "VIRTIO_BLK_S_OK", Want: uint64(statusOK)},
		{C: "VIRTIO_BLK_S_IOERR", Want: uint64(statusIOErr)},
		{C: "VIRTIO_BLK_S_UNSUPP", Want: uint64(statusUnsupp)},
		{C: "VIRTIO_BLK_ID_BYTES", Want: idSize},
		{C: "VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP", Want: flagUnmap},
		{C: "sizeof(struct virtio_blk_outhdr)", Want: headerSize},
		{C: "sizeof(struct virtio_blk_discard_write_zeroes)", Want: segmentSize},
		{C: "offsetof(struct virtio_blk_config, size_max)", Want: uint64(unsafe.Offsetof(c.SizeMax))},
		{C: "offsetof(struct virtio_blk_config, seg_max)", Want: uint64(unsafe.Offsetof(c.SegMax))},
		{C: "offsetof(struct virtio_blk_config, blk_size)", Want: uint64(unsafe.Offsetof(c.BlkSize))},
		{C: "offsetof(struct virtio_blk_config, physical_block_exp)", Want: uint64(unsafe.Offsetof(c.PhysicalBlockExp))},
		{C: "offsetof(struct virtio_blk_config, min_io_size)", Want: uint64(unsafe.Offsetof(c.MinIOSize))},
		{C: "offsetof(struct virtio_blk_config, wce)", Want: uint64(unsafe.Offsetof(c.Writeback))},
		{C: "offsetof(struct virtio_blk_config, num_queues)", Want: uint64(unsafe.Offsetof(c.NumQueues))},
		{C: "offsetof(struct virtio_blk_config, max_discard_sectors)", Want: uint64(unsafe.Offsetof(c.MaxDiscardSectors))},
		{C: "offsetof(struct virtio_blk_config, max_discard_seg)", Want: uint64(unsafe.Offsetof(c.MaxDiscardSeg))},
		{C: "offsetof(struct virtio_blk_config, discard_sector_alignment)", Want: uint64(unsafe.Offsetof(c.DiscardSectorAlignment))},
		{C: "offsetof(struct virtio_blk_config, max_write_zeroes_sectors)", Want: uint64(unsafe.Offsetof(c.MaxWriteZeroesSectors))},
		{C: "offsetof(struct virtio_blk_config, max_write_zeroes_seg)", Want: uint64(unsafe.Offsetof(c.MaxWriteZeroesSeg))},
		{C: "offsetof(struct virtio_blk_config, write_zeroes_may_unmap)", Want: uint64(unsafe.Offsetof(c.WriteZeroesMayUnmap))},
	})
}
