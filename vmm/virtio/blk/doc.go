// Package blk is the virtio block device, virtio 1.2 §5.2: a disk whose blocks are in
// a raw image file or in a block device of the host.
//
// Data moves between the file and guest RAM by a system call of the VMM
// (memory.Guest.Preadv and Pwritev). Only the header of a request and its status are
// copied to memory of this package. Data passes through the host's page cache, which is
// ordinary memory. With CacheNone it passes through buffers that are wiped instead.
package blk
