package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"strconv"
	"sync"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// maxWrite is the most data in one FUSE request or reply.
const maxWrite = 1 << 20

// shareRoot is the root of the file server: one directory per share, named by
// its index, each a view of a host directory.
type shareRoot struct {
	fs.Inode
	dirs []string
	err  error
}

// OnAdd hangs the shares below the root.
func (r *shareRoot) OnAdd(ctx context.Context) {
	for i, dir := range r.dirs {
		node, err := fs.NewLoopbackRoot(dir)
		if err != nil {
			r.err = fmt.Errorf("%s: %w", dir, err)
			return
		}
		child := r.NewPersistentInode(ctx, node, fs.StableAttr{Mode: fuse.S_IFDIR})
		r.AddChild(strconv.Itoa(i), child, true)
	}
}

// buffered opens files without O_DIRECT, which is between a program inside and
// its kernel: it would bind this server, too, to aligned buffers.
type buffered struct{ fuse.RawFileSystem }

func (b buffered) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	in.Flags &^= unix.O_DIRECT
	return b.RawFileSystem.Open(cancel, in, out)
}

func (b buffered) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	in.Flags &^= unix.O_DIRECT
	return b.RawFileSystem.Create(cancel, in, name, out)
}

// serveFiles answers FUSE requests for dirs on conn until it is closed. It
// works with the rights of this process, whoever asks inside.
func serveFiles(conn net.Conn, dirs []string) error {
	root := &shareRoot{dirs: dirs}
	quiet := log.New(io.Discard, "", 0)
	opts := &fs.Options{
		MountOptions: fuse.MountOptions{MaxWrite: maxWrite, Logger: quiet},
		Logger:       quiet,
	}
	raw := buffered{fs.NewNodeFS(root, opts)}
	server := fuse.NewProtocolServer(raw, &opts.MountOptions)

	var (
		writing sync.Mutex
		busy    sync.WaitGroup
	)
	defer busy.Wait()
	for {
		req, err := readMessage(conn)
		if err != nil {
			return err
		}
		busy.Go(func() {
			out := make([]byte, maxWrite+4096)
			n, _ := server.HandleRequest([][]byte{req}, [][]byte{out})
			if n == 0 {
				return // no answer is expected
			}
			writing.Lock()
			defer writing.Unlock()
			conn.Write(out[:n])
		})
	}
}

// readMessage reads one FUSE request: a 40-byte header that begins with the
// length of it all (struct fuse_in_header).
func readMessage(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(size[:])
	if n < 40 || n > maxWrite+4096 {
		return nil, fmt.Errorf("FUSE request of %d bytes", n)
	}
	msg := make([]byte, n)
	copy(msg, size[:])
	_, err := io.ReadFull(r, msg[4:])
	return msg, err
}
