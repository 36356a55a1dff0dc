package fuse

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sys/unix"
)

// Serve answers requests from conn until conn is closed. Data of files goes through
// ordinary memory.
func (s *Server) Serve(conn io.ReadWriter) error {
	var (
		writing sync.Mutex
		busy    sync.WaitGroup
	)
	defer busy.Wait()
	for {
		var head [4]byte // the size
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return err
		}
		size := binary.LittleEndian.Uint32(head[:])
		if size < headerIn || size > maxWrite+4096 {
			return fmt.Errorf("FUSE request of %d bytes", size)
		}
		m := &buffered{in: append(make([]byte, 0, size), head[:]...)[:size]}
		if _, err := io.ReadFull(conn, m.in[4:]); err != nil {
			return err
		}
		busy.Go(func() {
			reply, err := s.Answer(m)
			if err != nil || len(reply.Head) == 0 {
				return
			}
			writing.Lock()
			defer writing.Unlock()
			conn.Write(append(reply.Head, m.out...))
		})
	}
}

// buffered is a request in ordinary memory, and the data for its reply.
type buffered struct{ in, out []byte }

func (m *buffered) Size() uint64 { return uint64(len(m.in)) }

func (m *buffered) Room() uint64 { return maxWrite + 4096 }

func (m *buffered) CopyOut(p []byte, off uint64) error {
	copy(p, m.in[off:])
	return nil
}

func (m *buffered) Preadv(fd int, off int64, n int) (int, error) {
	p := make([]byte, n)
	n, err := unix.Pread(fd, p, off)
	m.out = p[:max(n, 0)]
	return len(m.out), err
}

func (m *buffered) Pwritev(fd int, off int64, from uint64, n int, flags int) (int, error) {
	n, err := unix.Pwritev2(fd, [][]byte{m.in[from : from+uint64(n)]}, off, flags)
	return max(n, 0), err
}
