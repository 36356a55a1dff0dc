package main

import (
	"bytes"
	"io"
	"sync"
)

// lines writes to a stream that others write to as well: whole lines, each with a prefix.
// Without a prefix it writes everything as it comes.
type lines struct {
	mu     *sync.Mutex // of the stream
	to     io.Writer
	prefix string
	rest   []byte // a line's beginning
	err    error
}

// longestLine is how much of a line is kept until its end comes, in bytes. A longer one
// is written as several.
const longestLine = 64 << 10

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	if l.prefix == "" {
		return len(p), l.flush(p)
	}
	var whole bytes.Buffer
	for text := p; len(text) > 0; {
		n := bytes.IndexByte(text, '\n') + 1
		if n == 0 {
			n = len(text)
		}
		n = min(n, longestLine-len(l.rest))
		l.rest = append(l.rest, text[:n]...)
		text = text[n:]
		if len(l.rest) == longestLine || l.rest[len(l.rest)-1] == '\n' {
			l.end(&whole)
		}
	}
	return len(p), l.flush(whole.Bytes())
}

// Close writes the beginning of a line whose end hasn't come, as a line.
func (l *lines) Close() error {
	var whole bytes.Buffer
	if len(l.rest) > 0 {
		l.end(&whole)
	}
	return l.flush(whole.Bytes())
}

// end adds the line to whole.
func (l *lines) end(whole *bytes.Buffer) {
	whole.WriteString(l.prefix)
	whole.Write(bytes.TrimSuffix(l.rest, []byte{'\n'}))
	whole.WriteByte('\n')
	l.rest = l.rest[:0]
}

// flush writes whole lines. After an error it does nothing more.
func (l *lines) flush(whole []byte) error {
	if len(whole) == 0 || l.err != nil {
		return l.err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, l.err = l.to.Write(whole)
	return l.err
}
