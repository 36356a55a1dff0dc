package kvm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

// Stats are KVM's counters by name, such as "exits" or "pages_4k". The value of a
// histogram or another list is its sum.
type Stats map[string]uint64

// Bounds for a statistics file, so that a wrong one can't make this process
// allocate without bound.
const (
	maxStats     = 1024
	maxStatsName = 256
	maxStatsSize = 64
	statsDesc    = 16 // struct kvm_stats_desc without its name
	statsHeader  = 24 // struct kvm_stats_header
)

// readStats opens and reads a binary statistics file (api.rst 4.133).
func readStats(of int) (Stats, error) {
	n, err := ioctl(of, kvmGetStatsFD, 0)
	if errors.Is(err, unix.ENOTTY) {
		return nil, fmt.Errorf("KVM_GET_STATS_FD needs Linux 5.14: %w", errors.ErrUnsupported)
	}
	if err != nil {
		return nil, fmt.Errorf("KVM_GET_STATS_FD: %w", err)
	}
	defer unix.Close(n)
	return parseStats(preader(n))
}

// preader reads a whole buffer at an offset of a file descriptor.
type preader int

func (p preader) ReadAt(b []byte, off int64) (int, error) {
	for n := 0; n < len(b); {
		k, err := unix.Pread(int(p), b[n:], off+int64(n))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return n, fmt.Errorf("read of KVM statistics: %w", err)
		case k == 0:
			return n, errors.New("KVM statistics end early")
		default:
			n += k
		}
	}
	return len(b), nil
}

func parseStats(r io.ReaderAt) (Stats, error) {
	le := binary.LittleEndian
	var h [statsHeader]byte
	if _, err := r.ReadAt(h[:], 0); err != nil {
		return nil, err
	}
	nameSize, count := le.Uint32(h[4:]), le.Uint32(h[8:])
	descOff, dataOff := le.Uint32(h[16:]), le.Uint32(h[20:])
	if nameSize == 0 || nameSize > maxStatsName || count > maxStats {
		return nil, fmt.Errorf("KVM statistics: %d entries with names of %d bytes are beyond reason", count, nameSize)
	}
	step := int(statsDesc + nameSize)
	desc := make([]byte, int(count)*step)
	if _, err := r.ReadAt(desc, int64(descOff)); err != nil {
		return nil, err
	}
	s := make(Stats, count)
	for ; len(desc) > 0; desc = desc[step:] {
		size := int(le.Uint16(desc[6:]))
		if size > maxStatsSize {
			return nil, fmt.Errorf("KVM statistics: a list of %d values is beyond reason", size)
		}
		values := make([]byte, 8*size)
		if _, err := r.ReadAt(values, int64(dataOff)+int64(le.Uint32(desc[8:]))); err != nil {
			return nil, err
		}
		name, _, _ := strings.Cut(string(desc[statsDesc:step]), "\x00")
		for ; len(values) > 0; values = values[8:] {
			s[name] += le.Uint64(values)
		}
	}
	return s, nil
}
