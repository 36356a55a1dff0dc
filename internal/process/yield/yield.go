// Package yield keeps Go's monitor off goroutines that do little but system calls.
//
// The monitor takes the processor (a P) of a goroutine that is in a system call, if the
// scheduler last chose this goroutine more than 10 ms ago. It does so even if the goroutine
// has returned from a thousand calls in that time (runtime.retake, Go 1.26). As long as it
// finds something to take, the monitor looks every 20 µs for more. The goroutine needs
// another processor when its call returns, so it goes on late: docs/benchmarks.md has
// figures ("VM exits").
package yield

import (
	"runtime"
	"time"
)

// period is well below the monitor's 10 ms.
const period = 4 * time.Millisecond

// Ticker says when its goroutine yields next. The zero value is ready for use.
type Ticker struct{ last time.Time }

// Tick yields, if the last time was more than 4 ms ago. Otherwise it costs a look at the
// clock, some 40 ns. It is for a goroutine that is about to make a system call.
func (t *Ticker) Tick() {
	if time.Since(t.last) > period {
		t.last = time.Now()
		runtime.Gosched()
	}
}
