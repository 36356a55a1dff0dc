package inside

import (
	"encoding/binary"
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// Each of FUSE's messages begins with its own length (struct fuse_in_header,
// fuse_out_header), so that a stream can carry them as they are.

// carryRequests passes on what the kernel asks. One read from /dev/fuse is
// one request.
func carryRequests(fuse, port int) {
	buf := make([]byte, requestMax)
	for {
		n, err := unix.Read(fuse, buf)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOENT):
			continue // ENOENT: a request withdrawn before it was read
		case err != nil:
			return // ENODEV: unmounted
		}
		if _, err := (descriptor(port)).Write(buf[:n]); err != nil {
			return
		}
	}
}

// carryReplies passes on what the host answers. One write to /dev/fuse must
// be one reply.
func carryReplies(port, fuse int) {
	buf := make([]byte, requestMax)
	for {
		if _, err := io.ReadFull(descriptor(port), buf[:4]); err != nil {
			return
		}
		n := binary.LittleEndian.Uint32(buf)
		if n < 16 || n > requestMax {
			return
		}
		if _, err := io.ReadFull(descriptor(port), buf[4:n]); err != nil {
			return
		}
		unix.Write(fuse, buf[:n]) // ENOENT: the request has been interrupted
	}
}

// A descriptor reads and writes with plain system calls. Process 1 must not
// use the poller here: a goroutine that waits in one of these calls is what
// another's file access depends on.
type descriptor int

func (d descriptor) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(int(d), p)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

func (d descriptor) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Write(int(d), p[done:])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return done, err
		default:
			done += n
		}
	}
	return done, nil
}
