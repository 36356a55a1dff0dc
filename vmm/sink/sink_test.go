package sink

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// writes collects what is written. With a gate, each write waits for a token.
type writes struct {
	gate chan struct{}
	mu   sync.Mutex
	all  []byte
}

func (w *writes) Write(p []byte) (int, error) {
	if w.gate != nil {
		<-w.gate
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, p...)
	return len(p), nil
}

// A writer that is stuck makes a Write lose output, unless the Sink is patient.
func TestWriteStuck(t *testing.T) {
	for _, patient := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := &writes{gate: make(chan struct{})}
			var told []error
			s := New(Config{Name: "port", Out: w, Patient: patient, OnError: func(err error) { told = append(told, err) }})
			s.Write([]byte("\n"), nil)
			synctest.Wait()
			const more = QueueSize + 100
			start := time.Now()
			wrote := make(chan time.Duration)
			go func() {
				s.Write([]byte(strings.Repeat("x", more)), nil)
				wrote <- time.Since(start)
			}()
			time.Sleep(3 * Patience)
			lost := 0
			select {
			case d := <-wrote:
				if patient || d != Patience {
					t.Errorf("patient %v: the Write ended after %v", patient, d)
				}
				lost = 100
			default:
				if !patient {
					t.Error("the Write waits for ever")
				}
			}
			close(w.gate)
			if patient {
				<-wrote
			}
			synctest.Wait()
			if err := s.Close(); (err != nil) == patient || len(w.all) != 1+more-lost || (len(told) > 0) == patient {
				t.Errorf("patient %v: %v, %d bytes written, told %v", patient, err, len(w.all), told)
			}
		})
	}
}

// A Write that waits ends when its stop is closed. What it queued is written.
func TestWriteStop(t *testing.T) {
	for _, patient := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := &writes{gate: make(chan struct{})}
			s := New(Config{Name: "port", Out: w, Patient: patient})
			s.Write([]byte("\n"), nil)
			synctest.Wait()
			stop := make(chan struct{})
			time.AfterFunc(Patience/2, func() { close(stop) })
			start := time.Now()
			if s.Write(make([]byte, 2*QueueSize), stop) || time.Since(start) != Patience/2 {
				t.Errorf("the Write didn't stop, or after %v", time.Since(start))
			}
			if s.Drain(stop) {
				t.Error("drained to a writer that takes nothing")
			}
			close(w.gate)
			if err := s.Close(); err != nil || len(w.all) != 1+QueueSize {
				t.Errorf("Close: %v, %d bytes written", err, len(w.all))
			}
		})
	}
}

// Drain returns when the writer has had everything, and doesn't wait for a line's end.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &writes{gate: make(chan struct{}, 2)}
		s := New(Config{Out: w})
		if !s.Drain(nil) {
			t.Error("an empty Sink doesn't drain")
		}
		s.Write([]byte("no newline"), nil)
		start := time.Now()
		time.AfterFunc(time.Second, func() { w.gate <- struct{}{} })
		if !s.Drain(nil) || string(w.all) != "no newline" || time.Since(start) != time.Second {
			t.Errorf("drained after %v: %q", time.Since(start), w.all)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}
