package lab

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
)

// swapDisk makes a disk image in memory with the header that mkswap(8) writes
// (union swap_header, include/linux/swap.h).
func swapDisk(size int64) (*os.File, error) {
	const page = 4096
	pages := min(size/page, math.MaxUint32)
	disk, err := memfd("offmap-lab-swap", pages*page)
	if err != nil {
		return nil, err
	}
	header := make([]byte, page)
	binary.LittleEndian.PutUint32(header[1024:], 1)               // version
	binary.LittleEndian.PutUint32(header[1028:], uint32(pages-1)) // the last page
	copy(header[page-10:], "SWAPSPACE2")
	if _, err := disk.WriteAt(header, 0); err != nil {
		disk.Close()
		return nil, fmt.Errorf("swap disk: %w", err)
	}
	return disk, nil
}

// swapArgs give QEMU the disk at descriptor fd. It is the machine's only one.
func swapArgs(fd int) []string {
	return []string{
		"-blockdev", fmt.Sprintf("driver=file,node-name=swap,filename=/proc/self/fd/%d,locking=off", fd),
		"-device", "virtio-blk-pci,drive=swap",
	}
}
