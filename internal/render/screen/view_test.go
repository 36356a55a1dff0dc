package screen

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"offmap/internal/measure/exposuremap"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/vmm"
)

// terminal is one without a terminal.
type terminal struct {
	mu   sync.Mutex
	out  bytes.Buffer
	w, h int
	err  error
}

func (t *terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.out.Write(p)
}

func (t *terminal) size() (int, int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.w, t.h, t.err
}

func (t *terminal) set(w, h int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.w, t.h, t.err = w, h, err
}

// take returns what was written since the last time once it has all of want.
func (t *terminal) take(tt *testing.T, want ...string) string {
	tt.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		t.mu.Lock()
		got := t.out.String()
		missing := ""
		for _, w := range want {
			if !strings.Contains(got, w) {
				missing = w
			}
		}
		if missing == "" {
			t.out.Reset()
		}
		t.mu.Unlock()
		if missing == "" {
			return got
		}
		if time.Now().After(end) {
			tt.Fatalf("%q isn't written; what is: %q", missing, got)
		}
	}
}

func (t *terminal) config() Config {
	return Config{
		Out: t, Size: t.size, Profile: None, Hint: "q stops the guest",
		Trace: exposuremap.Trace{
			Guest: "payload touch", Pair: attach.Pair{Backend: memory.Secret, Attach: attach.ViaWindow}, Memory: 1 << 20, Window: 512 << 10,
		},
	}
}

func TestView(t *testing.T) {
	term := &terminal{w: 80, h: 24}
	cfg := term.config()
	restored := 0
	cfg.Restore = func() { restored++ }
	cfg.Transferred = func() []Transferred { return []Transferred{{"disks", 1 << 20, 0}} }
	v := Open(cfg)
	if got := term.take(t, enter, "payload touch: 1.0 MiB of secret memory, window of 512 KiB", "q stops"); !strings.HasPrefix(got, enter) {
		t.Errorf("begins with %.40q", got)
	}

	pages := make([]memory.PageState, 256)
	pages[3], pages[200] = memory.InWindow, memory.Hidden
	v.See(vmm.Look{At: time.Second, Usage: attach.Usage{ExposedPeak: 2 * memory.PageSize}}, pages)
	got := term.take(t, "00:01.0", "h  hidden", "w  in the window", "0.39 %", "disks: read 0/s")
	if strings.Contains(got, "\x1b[2J") {
		t.Error("the screen is cleared for a frame like the one before")
	}

	v.Write([]byte("as many lines\r\nas there is room for\r\nbelow the map\r\n"))
	term.take(t, "below the map")
	v.Write([]byte("hello from the guest\r\n\x1b[31mred"))
	got = term.take(t, "hello from the guest", "red")
	if strings.Contains(got, "in the window") || strings.Contains(got, "\x1b[31m") {
		t.Errorf("more than the new lines was drawn: %q", got)
	}

	term.set(60, 12, nil)
	v.Write([]byte(" and small\r\n"))
	got = term.take(t, "\x1b[2J", "in the window", "\x1b[12;1H")
	if strings.Contains(got, "\x1b[13;1H") {
		t.Errorf("below the screen: %q", got)
	}

	term.set(0, 0, errors.New("hung up"))
	v.Write([]byte("x"))
	time.Sleep(3 * redraw)

	v.Close()
	v.Close()
	if got := term.take(t, leave); strings.Count(got, leave) != 1 || !strings.HasSuffix(got, leave) || restored != 1 {
		t.Errorf("restored %d times: %q", restored, got)
	}
	if got := v.Tail(2); len(got) != 2 || got[0] != "red and small" {
		t.Errorf("the console's last lines are %q", got)
	}
}

// TestViewPanics: the terminal is given back before the program ends.
func TestViewPanics(t *testing.T) {
	term, restored := &terminal{}, false
	cfg := term.config()
	cfg.Size = func() (int, int, error) { panic("a fault of ours") }
	cfg.Restore = func() { restored = true }
	v := &View{cfg: cfg}
	func() {
		defer func() {
			if e := recover(); e != "a fault of ours" {
				t.Errorf("recovered %v", e)
			}
		}()
		v.run()
	}()
	if !restored || !strings.Contains(term.out.String(), leave) {
		t.Errorf("restored: %v, %q", restored, term.out.String())
	}
}

func TestRates(t *testing.T) {
	var r rates
	for i := range 30 {
		var s Status
		r.next(moment{
			exposuremap.Sample{MS: float64(i) * 100, Faults: uint64(i * i), Exits: uint64(5 * i)},
			[]Transferred{{"disks", uint64(4096 * i), 0}, {"shares", 0, uint64(i * i)}},
		}, &s)
		disks, shares := s.Transfers[0], s.Transfers[1]
		switch {
		case i == 0 && (s.Faults != 0 || s.Exits != 0 || disks != Transfer{Name: "disks"}):
			t.Errorf("at once %+v", s)
		case i > 0 && (s.Exits < 49.9 || s.Exits > 50.1 || disks.Read < 40959 || disks.Read > 40961 || disks.Written != 0):
			t.Errorf("%d: %v exits a second, want 50; %+v, want 40960 bytes read", i, s.Exits, disks)
		case i == 29 && (s.Faults < 470 || s.Faults > 490 || shares.Written < 470 || shares.Written > 490): // (29²-19²) in the last second
			t.Errorf("%v faults a second, want 480; %+v, want 480 bytes written", s.Faults, shares)
		}
	}
	if len(r.past) > 12 {
		t.Errorf("%d samples are kept", len(r.past))
	}
}
