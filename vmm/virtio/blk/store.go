package blk

import "offmap/memory"

// store holds the bytes of a disk. Its methods are called from several goroutines,
// and only for ranges within the disk.
type store interface {
	// read reads from off on into all of buf. It returns how many bytes it has
	// moved, and an error if these are fewer. Without wait its error is EAGAIN
	// where it would wait for more than a copy of memory; the caller then calls it
	// again, for the rest, with wait.
	read(g memory.Guest, buf memory.Ranges, off int64, wait bool) (done uint64, err error)
	// write writes all of buf, as read does.
	write(g memory.Guest, buf memory.Ranges, off int64, wait bool) (done uint64, err error)
	// zero makes n bytes from off on read as zeros, and frees their space if
	// unmap is set.
	zero(off, n int64, unmap bool) error
	// discard frees the space of n bytes from off on, if it can. They may read
	// as anything that the disk has held there, or as zeros.
	discard(off, n int64) error
	// flush makes durable what was written before.
	flush() error
	close() error
}
