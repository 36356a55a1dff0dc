package console

import (
	"io"
	"sync"
)

// input reads what the guest is to read, on a goroutine of its own: a read may wait for
// long, and can't be ended.
type input struct {
	r    io.Reader
	want chan struct{} // somebody waits for input
	have chan struct{} // a read is done
	quit chan struct{}

	mu     sync.Mutex
	buf    [chunk]byte
	unread []byte // of buf; the goroutine reads again when it is empty
	ended  bool
}

func newInput(r io.Reader) *input {
	in := &input{r: r, want: make(chan struct{}, 1), have: make(chan struct{}, 1), quit: make(chan struct{})}
	go in.run()
	return in
}

func (in *input) run() {
	for {
		select {
		case <-in.want:
		case <-in.quit:
			return
		}
		if b, ended := in.state(); len(b) > 0 || ended {
			continue
		}
		n, err := in.r.Read(in.buf[:])
		in.mu.Lock()
		in.unread, in.ended = in.buf[:n], err != nil
		in.mu.Unlock()
		signal(in.have)
	}
}

func (in *input) state() (unread []byte, ended bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.unread, in.ended
}

// wait waits for input, and returns it, or says that there is no more. ok is false if
// stop was closed before. The input stays until it is taken.
func (in *input) wait(stop <-chan struct{}) (b []byte, ended, ok bool) {
	for {
		b, ended := in.state()
		if len(b) > 0 {
			return b, false, true
		}
		if ended {
			return nil, true, true
		}
		signal(in.want)
		select {
		case <-in.have:
		case <-stop:
			return nil, false, false
		}
	}
}

// taken wipes the first n bytes of what wait returned.
func (in *input) taken(n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	clear(in.unread[:n])
	in.unread = in.unread[n:]
}

func (in *input) close() { close(in.quit) }

// signal puts a token into c unless it has one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// isClosed reports whether c, which nobody sends on, is closed.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
