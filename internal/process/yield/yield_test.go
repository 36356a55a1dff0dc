package yield

import (
	"runtime"
	"sync/atomic"
	"testing"
)

func TestTick(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var ticker Ticker
	var ran atomic.Bool
	go ran.Store(true)
	ticker.Tick()
	if !ran.Load() {
		t.Error("the first Tick lets nobody run")
	}
	first := ticker.last
	for ticker.Tick(); ticker.last.Equal(first); ticker.Tick() {
	}
	if d := ticker.last.Sub(first); d <= period {
		t.Errorf("it yields again after %v", d)
	}
}
