package e2e

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"sync"
	"time"
)

// syncBuffer collects a process's output while a test reads it.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// prefixed prints whole lines on stdout as they come, each with a prefix, for
// processes that run side by side. One goroutine writes to it.
type prefixed struct {
	prefix string
	line   []byte
	bad    []string    // the lines that say which tests failed, and how
	recent []string    // the last lines of the test that runs
	silent *time.Timer // runs out where nothing is written for so long
}

// mostRecent is how many lines of a failed test are repeated.
const mostRecent = 12

// failure is how Go's tests say that they failed, hang or crash.
var failure = regexp.MustCompile(`^(\s*--- FAIL:|panic: |fatal error: |\s+Test\S+ \(.*\)$|left behind: |offmap: )`)

func (w *prefixed) Write(p []byte) (int, error) {
	w.silent.Reset(silence)
	w.line = append(w.line, p...)
	for {
		line, rest, whole := bytes.Cut(w.line, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		fmt.Fprintf(os.Stdout, "%s%s\n", w.prefix, line)
		switch {
		case failure.Match(line):
			w.bad = append(append(w.bad, w.recent...), string(line))
			w.recent = nil
		case bytes.HasPrefix(line, []byte("=== RUN")):
			w.recent = nil
		default:
			w.recent = append(w.recent[max(0, len(w.recent)-mostRecent+1):], string(line))
		}
		w.line = rest
	}
}

func (w *prefixed) flush() {
	if len(w.line) > 0 {
		w.Write([]byte("\n"))
	}
}
