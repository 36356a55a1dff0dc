package vmm

import (
	"testing"

	"offmap/memory"
	"offmap/memory/attach"
)

// TestLook looks at guests that write all their RAM, all the while: what it sees
// only grows, never more of it is exposed than may be, and the last look is what
// Run reports.
func TestLook(t *testing.T) {
	needKVM(t)
	const ram, bound = 48 << 20, 4 << 20
	for _, c := range []struct {
		backend memory.Backend
		attach  attach.Method
	}{{memory.Anon, attach.Direct}, {memory.Memfd, attach.Direct}, {memory.Secret, attach.ViaWindow}, {memory.Secret, attach.ViaBridge}} {
		t.Run(string(c.backend)+"+"+string(c.attach), func(t *testing.T) {
			cfg := payloadConfig(t, "touch", 2, ram)
			cfg.Backend, cfg.Attach = c.backend, c.attach
			switch c.attach {
			case attach.ViaWindow:
				needWindow(t)
				cfg.Options.Window = bound
			case attach.ViaBridge:
				if err := attach.CheckBridge(); err != nil {
					t.Skipf("SKIPPED: %v", err)
				}
			}
			m, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			pages := make([]memory.PageState, m.Pages())
			first, err := m.Look(pages)
			if err != nil {
				t.Fatal(err)
			}
			if first.Populated == 0 || first.Populated > ram/4 || first.Exits != 0 || first.ToUserland != 0 {
				t.Errorf("before the guest runs: %+v; want what was loaded alone", first)
			}
			ended, looked := make(chan struct{}), make(chan int)
			go func() {
				n := 0
				for last := first; ; n++ {
					l, err := m.Look(pages)
					if err != nil {
						t.Error(err)
					}
					if l.At <= last.At || l.Exits < last.Exits || l.Faults < last.Faults || l.Populated > ram || l.Exposed > l.ExposedPeak {
						t.Errorf("%+v after %+v", l, last)
					}
					if c.attach == attach.ViaWindow && l.ExposedPeak > bound || c.attach == attach.ViaBridge && l.ExposedPeak > 0 {
						t.Errorf("%+v: more than may be", l)
					}
					last = l
					select {
					case <-ended:
						looked <- n
						return
					default:
					}
				}
			}()
			r, err := m.Run(t.Context())
			close(ended)
			t.Logf("%d looks", <-looked)
			if err != nil || r.Outcome.Reason != PowerOff {
				t.Fatalf("%+v, %v", r, err)
			}
			last, err := m.Look(pages)
			if err != nil {
				t.Fatal(err)
			}
			var exits uint64
			for _, n := range r.Exits {
				exits += n
			}
			if c.attach == attach.ViaWindow {
				last.Exposed = r.Exposed // the pager may still make room for the next fault
			}
			if last.Usage != r.Usage || last.Exits != exits || last.ToUserland != r.ToUserland || r.Faults != nil && last.Faults != r.Faults.Count {
				t.Errorf("the last look %+v, the result %+v", last, r)
			}
		})
	}
}
