package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// output is a stream whose reader may be slow or stuck. Write waits for the reader
// until stopping is closed and outputPatience longer. After that it fails.
type output struct {
	w        io.Writer
	stopping <-chan struct{}
	stuck    bool
}

const outputPatience = 300 * time.Millisecond

var errStuck = errors.New("nobody takes the output: the end of it is lost")

// Write implements io.Writer, for one caller at a time.
func (o *output) Write(p []byte) (int, error) {
	if o.stuck {
		return 0, errStuck
	}
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	own := append([]byte(nil), p...) // the caller may change p once Write returns
	go func() {
		n, err := o.w.Write(own)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return r.n, r.err
	case <-o.stopping:
	}
	select {
	case r := <-done:
		return r.n, r.err
	case <-time.After(outputPatience):
		o.stuck = true
		return 0, errStuck
	}
}

// maxQuote is the most that is quoted of a guest's text, in characters.
const maxQuote = 200

// quote returns a guest's text on one line, in quotes, and cut to maxQuote.
func quote(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if r := []rune(s); len(r) > maxQuote {
		s = string(r[:maxQuote]) + "..."
	}
	return strconv.Quote(s)
}

// asciiControls escapes the control characters in a JSON document, because a terminal
// may act on them. JSON itself requires that only below U+0020.
func asciiControls(doc []byte) []byte {
	var b bytes.Buffer
	for _, r := range string(doc) {
		if r == '\n' || strconv.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		for _, u := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04x`, u)
		}
	}
	return b.Bytes()
}
