package screen

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"offmap/internal/measure/exposuremap"
	"offmap/memory"
	"offmap/vmm"
)

// Sequences of xterm, which all terminals of today know (ctlseqs): the screen's
// second page, no cursor, no wrapping at the end of a line.
const (
	enter = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
	leave = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
	// A frame is shown as a whole, where the terminal can; the others ignore it.
	beginFrame = "\x1b[?2026h"
	endFrame   = "\x1b[?2026l"
)

// redraw is how soon after another a frame is drawn, for what the guest writes.
const redraw = 40 * time.Millisecond

// Config describes a view.
type Config struct {
	Out     io.Writer                    // the terminal
	Size    func() (w, h int, err error) // in characters
	Profile Profile
	Trace   exposuremap.Trace // what guest it is: all but its samples
	Hint    string            // which keys there are
	// Transferred, if not nil, returns what the guest has read and written so
	// far, always for the same kinds of devices.
	Transferred func() []Transferred
	// Restore, if not nil, is called once, after the view has set the terminal
	// back, also if a panic of the view is about to end the program.
	Restore func()
}

// Transferred is what a guest has read from devices of one kind, and has written to
// them, in bytes.
type Transferred struct {
	Name          string // of the devices: "disks"
	Read, Written uint64
}

// View shows a guest on a terminal. It implements exposuremap.Viewer, and
// io.Writer for the guest's console.
type View struct {
	cfg     Config
	changed chan struct{} // of one: something is to be drawn
	done    chan struct{}
	drawn   sync.WaitGroup
	closing sync.Once
	given   sync.Once

	mu     sync.Mutex
	status Status
	tail   tail
	rates  rates
}

// Open takes the terminal over. Close must be called, whatever happens.
func Open(cfg Config) *View {
	tr := cfg.Trace
	how := "attach " + string(tr.Attach)
	if tr.Window > 0 {
		how = "window of " + mib(tr.Window)
	}
	v := &View{
		cfg: cfg, changed: make(chan struct{}, 1), done: make(chan struct{}),
		status: Status{
			Title:  fmt.Sprintf("%s: %s of %s memory, %s", tr.Guest, mib(tr.Memory), tr.Backend, how),
			Memory: tr.Memory, Window: tr.Window, Hint: cfg.Hint,
			Ordinary: tr.Backend.Exposed(), Hides: !tr.Backend.Exposed(),
		},
	}
	io.WriteString(cfg.Out, enter)
	v.drawn.Go(v.run)
	return v
}

// Close sets the terminal back. It may be called more than once.
func (v *View) Close() {
	v.closing.Do(func() { close(v.done) })
	v.drawn.Wait()
	v.giveBack()
}

func (v *View) giveBack() {
	v.given.Do(func() {
		io.WriteString(v.cfg.Out, leave)
		if v.cfg.Restore != nil {
			v.cfg.Restore()
		}
	})
}

// See implements exposuremap.Viewer.
func (v *View) See(l vmm.Look, pages []memory.PageState) {
	now := moment{Sample: exposuremap.SampleOf(l, pages)}
	if v.cfg.Transferred != nil {
		now.transferred = v.cfg.Transferred()
	}
	v.mu.Lock()
	v.status.Sample = now.Sample
	v.rates.next(now, &v.status)
	v.mu.Unlock()
	v.change()
}

// Write takes what the guest writes to its console, and the program to its log.
func (v *View) Write(p []byte) (int, error) {
	v.mu.Lock()
	n, err := v.tail.Write(p)
	v.mu.Unlock()
	v.change()
	return n, err
}

// Tail returns the last lines of the console, at most n.
func (v *View) Tail(n int) []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.tail.last(n)
}

func (v *View) change() {
	select {
	case v.changed <- struct{}{}:
	default: // a change is noted already
	}
}

// run draws when something has changed, at most once in each redraw.
func (v *View) run() {
	defer func() {
		if e := recover(); e != nil {
			v.giveBack()
			panic(e)
		}
	}()
	var f frame
	for {
		f.show(v)
		select {
		case <-v.done:
			return
		case <-time.After(redraw):
		}
		select {
		case <-v.done:
			return
		case <-v.changed:
		}
	}
}

// frame is what the terminal shows now.
type frame struct {
	w, h  int
	lines []string
}

// show draws the frame of this moment: the lines that have changed, or all if the
// terminal's size has.
func (f *frame) show(v *View) {
	w, h, err := v.cfg.Size()
	if err != nil || w < 1 || h < 1 {
		return // the terminal is gone, or has no size yet
	}
	v.mu.Lock()
	s := v.status
	s.Console = v.tail.last(h)
	v.mu.Unlock()

	lines := Draw(s, w, h, v.cfg.Profile)
	var b strings.Builder
	b.WriteString(beginFrame)
	if w != f.w || h != f.h {
		b.WriteString("\x1b[0m\x1b[2J")
		f.lines = nil
	}
	for i, l := range lines {
		if i >= len(f.lines) || f.lines[i] != l {
			fmt.Fprintf(&b, "\x1b[%d;1H%s", i+1, l)
		}
	}
	b.WriteString(endFrame)
	f.w, f.h, f.lines = w, h, lines
	io.WriteString(v.cfg.Out, b.String())
}

// moment is what a guest had done at one moment.
type moment struct {
	exposuremap.Sample
	transferred []Transferred
}

// rates makes counts into rates, over the last second or so.
type rates struct{ past []moment }

// next sets the rates of a status.
func (r *rates) next(m moment, s *Status) {
	m.Map = nil
	r.past = append(r.past, m)
	for len(r.past) > 2 && m.MS-r.past[1].MS >= 1000 {
		r.past = r.past[1:]
	}
	first := r.past[0]
	seconds := (m.MS - first.MS) / 1000
	rate := func(from, to uint64) float64 {
		if seconds <= 0 {
			return 0
		}
		return float64(to-from) / seconds
	}
	s.Faults, s.Exits = rate(first.Faults, m.Faults), rate(first.Exits, m.Exits)
	s.Transfers = make([]Transfer, len(m.transferred))
	for i, t := range m.transferred {
		f := first.transferred[i]
		s.Transfers[i] = Transfer{t.Name, rate(f.Read, t.Read), rate(f.Written, t.Written)}
	}
}
