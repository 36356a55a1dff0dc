package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/pflag"

	"offmap/internal/measure/exposuremap"
	"offmap/internal/measure/probe"
	"offmap/internal/process/terminal"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/vmm"
)

// lookInterval is the time between two looks at a guest's pages.
const lookInterval = 100 * time.Millisecond

// watchFlags are the flags to record and show which guest pages are exposed.
type watchFlags struct {
	exposure string
	live     bool
}

func (f *watchFlags) add(fl *pflag.FlagSet) {
	fl.StringVar(&f.exposure, "exposure", "", "record to `FILE`, ten times a second, which guest pages are hidden and which\nexposed, for offmap report")
	fl.BoolVar(&f.live, "live", false, "show on this terminal which guest pages are hidden and which exposed, and the\nconsole's last lines")
}

// watch records and shows which of a guest's pages are exposed. It does nothing without
// its flags.
type watch struct {
	file     string
	live     *live // nil without --live
	recorder *exposuremap.Recorder
	stop     func() error
}

// open checks the flags before the guest is made.
func (f watchFlags) open(json bool) (*watch, error) {
	w := &watch{file: f.exposure, stop: func() error { return nil }}
	if f.live {
		if json {
			return nil, usage("--live has the terminal to itself: write the report to a file with --report in place of --json")
		}
		if err := needTerminal(); err != nil {
			return nil, err
		}
		w.live = &live{}
	}
	if f.exposure != "" {
		if err := checkTarget(f.exposure); err != nil {
			return nil, fmt.Errorf("exposure: %w", err)
		}
	}
	return w, nil
}

// console returns the writer for the guest's console: out, or with --live the lines
// below the map.
func (w *watch) console(out io.Writer) io.Writer {
	if w.live != nil {
		return w.live
	}
	return out
}

// quitKeys returns the keys that stop the guest: q and Ctrl-C for a payload, since
// payloads read no input, and none for Linux.
func (w *watch) quitKeys(f runFlags) string {
	if w.live != nil && f.guest.kernel == "" {
		return "q\x03"
	}
	return ""
}

// hint names the keys that stop the guest.
func (w *watch) hint(f runFlags) string {
	if w.quitKeys(f) != "" {
		return "q stops the guest"
	}
	return "Ctrl-a x stops the guest"
}

// start watches a machine that is about to run. tty is nil if stdin is no terminal.
func (w *watch) start(ctx context.Context, m *vmm.Machine, f runFlags, b memory.Backend, window uint64, d *devices, tty *terminal.Terminal) {
	head := exposuremap.Trace{
		Host: probe.ThisHost(), Started: time.Now().UTC().Format(time.RFC3339),
		Guest: f.guest.name(), CPUs: f.cpus, Pair: attach.Pair{Backend: b}, Memory: uint64(f.memory),
	}
	if head.Attach, _ = m.Attachment(); head.Attach == attach.ViaWindow {
		head.Window = window
	}
	var viewers []exposuremap.Viewer
	if w.file != "" {
		w.recorder = exposuremap.NewRecorder(head, lookInterval)
		viewers = append(viewers, w.recorder)
	}
	if w.live != nil {
		hint := ""
		if tty != nil {
			hint = w.hint(f)
		}
		out := &output{w: os.Stdout, stopping: ctx.Done()}
		viewers = append(viewers, w.live.open(head, hint, d.transferred, out, tty.Close))
	}
	if viewers != nil {
		w.stop = exposuremap.Watch(m, lookInterval, viewers...)
	}
}

// end takes a last look and restores the terminal. The machine must still be open.
func (w *watch) end(ctx context.Context) error {
	err := w.stop()
	if w.live != nil {
		w.live.close()
	}
	if w.recorder == nil {
		return err
	}
	werr := writeTarget(ctx, w.file, w.recorder.Trace().Write)
	w.recorder = nil
	if werr != nil {
		werr = fmt.Errorf("exposure: %w", werr)
	}
	return errors.Join(err, werr)
}
