package canary

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// ScanFile searches a file for canaries, such as the RAM of a virtual machine
// (QEMU's memory-backend-file). It skips holes. Addresses in Hits are file
// offsets.
func ScanFile(ctx context.Context, path string, canaries []Canary, progress Progress) ([]Hits, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	ranges, err := DataRanges(f)
	if err != nil {
		return nil, err
	}
	h, err := Scan(ctx, f, ranges, canaries, progress)
	if err != nil {
		return h, fmt.Errorf("scan %s: %w", path, err)
	}
	return h, nil
}

// DataRanges lists the parts of f that are not holes, by lseek(2) with
// SEEK_DATA and SEEK_HOLE; a file system without holes reports one part.
func DataRanges(f *os.File) ([]Range, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	var ranges []Range
	for end := int64(0); end < size; {
		start, err := f.Seek(end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // only a hole is left
			break
		}
		if err != nil {
			return nil, err
		}
		if end, err = f.Seek(start, unix.SEEK_HOLE); err != nil {
			return nil, err
		}
		// No aligned copy starts before a multiple of step or ends after one.
		start, stop := (start+step-1)&^(step-1), end&^(step-1)
		if start < stop {
			ranges = append(ranges, Range{Off: start, Len: stop - start, Addr: uint64(start)})
		}
	}
	return ranges, nil
}
