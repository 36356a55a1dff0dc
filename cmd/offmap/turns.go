package main

import (
	"bytes"
	"io"
	"sync"
)

// turns lets several writers at the same streams speak one after the other:
// what one says before its turn is kept.
type turns struct {
	mu   sync.Mutex
	now  int
	kept [][]saying
	over []bool
}

// A saying is what was written to one stream.
type saying struct {
	to   io.Writer
	text bytes.Buffer
}

func newTurns(n int) *turns {
	return &turns{kept: make([][]saying, n), over: make([]bool, n)}
}

// writer returns the i-th speaker's writer to a stream.
func (t *turns) writer(i int, to io.Writer) io.Writer { return &turn{t, i, to} }

// done says that the i-th speaker has said everything.
func (t *turns) done(i int) {
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

type turn struct {
	t  *turns
	i  int
	to io.Writer
}

func (w *turn) Write(p []byte) (int, error) {
	t := w.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.i == t.now {
		return w.to.Write(p)
	}
	list := t.kept[w.i]
	if n := len(list); n == 0 || list[n-1].to != w.to {
		t.kept[w.i] = append(list, saying{to: w.to})
	}
	list = t.kept[w.i]
	return list[len(list)-1].text.Write(p)
}
