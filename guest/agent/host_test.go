package agent

import (
	"context"
	"io"
	"os"
	"sync"
	"testing"
	"time"
)

// interrupted is a reader whose Read waits for Interrupt, as a terminal's does.
type interrupted struct {
	once sync.Once
	over chan struct{}
}

func (r *interrupted) Read([]byte) (int, error) {
	<-r.over
	return 0, os.ErrClosed
}

func (r *interrupted) Interrupt() { r.once.Do(func() { close(r.over) }) }

// Input that doesn't come holds nobody up when the machine is over.
func TestPassInputEnds(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for name, in := range map[string]io.Reader{"terminal": &interrupted{over: make(chan struct{})}, "pipe": r} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			passInput(ctx, in, NewConn(nil), nil)
		}()
		time.AfterFunc(10*time.Millisecond, cancel)
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Errorf("%s: still waiting", name)
		}
	}
}
