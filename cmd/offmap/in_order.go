package main

import (
	"bytes"
	"io"
	"sync"
)

// inOrder writes the output of several writers to the same streams, in the order of the
// writers. It keeps a writer's output until all writers before it are done.
type inOrder struct {
	mu   sync.Mutex
	now  int // the writer whose output isn't kept
	kept [][]kept
	over []bool // by writer: it is done
}

// kept is output for one stream that can't be written yet.
type kept struct {
	to   io.Writer
	text bytes.Buffer
}

func newInOrder(n int) *inOrder {
	return &inOrder{kept: make([][]kept, n), over: make([]bool, n)}
}

// writer returns the i-th writer's part of a stream.
func (t *inOrder) writer(i int, to io.Writer) io.Writer { return &part{t, i, to} }

// done says that the i-th writer has written everything.
func (t *inOrder) done(i int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over[i] = true
	for t.now < len(t.over) && t.over[t.now] {
		t.now++
		if t.now < len(t.over) {
			for k := range t.kept[t.now] {
				s := &t.kept[t.now][k]
				s.to.Write(s.text.Bytes())
			}
			t.kept[t.now] = nil
		}
	}
}

type part struct {
	t  *inOrder
	i  int
	to io.Writer
}

func (w *part) Write(p []byte) (int, error) {
	t := w.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.i == t.now {
		return w.to.Write(p)
	}
	list := t.kept[w.i]
	if n := len(list); n == 0 || list[n-1].to != w.to {
		t.kept[w.i] = append(list, kept{to: w.to})
	}
	list = t.kept[w.i]
	return list[len(list)-1].text.Write(p)
}
