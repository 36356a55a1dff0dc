package main

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"offmap/memory"
	"offmap/memory/attach"
	"offmap/memory/attach/window"
)

// windowFlags set the attach window up.
type windowFlags struct {
	size size
	age  time.Duration
}

func (f *windowFlags) addSize(fl *pflag.FlagSet) {
	fl.Var(&f.size, "window", "attach window: the most guest RAM in ordinary memory at a time (default a quarter of it)")
}

func (f *windowFlags) add(fl *pflag.FlagSet) {
	f.addSize(fl)
	fl.DurationVar(&f.age, "window-age", 0, "attach window: pages that aren't used for this long go back (0: when room is needed)")
}

// options checks the flags against the guest that they are for.
func (f *windowFlags) options(b memory.Backend, m attach.Method, ram uint64) (attach.Options, error) {
	pairs, _ := attach.Pair{Backend: b, Attach: m}.Pairs()
	o := attach.Options{Window: attach.DefaultWindow(ram), WindowAge: f.age}
	switch {
	case f.size == 0 && f.age == 0:
		return o, nil
	case !slices.Contains(pairs, attach.Pair{Backend: b, Attach: attach.ViaWindow}):
		return o, usage("--window and --window-age are for --backend secret with --attach window")
	case f.age < 0:
		return o, usage("--window-age %v: a time can't be negative", f.age)
	case f.age > 0 && f.age < minAge:
		return o, usage("--window-age %v is too short: at least %v", f.age, minAge)
	case f.size == 0:
		return o, nil
	case f.size < window.MinSize:
		least := size(window.MinSize)
		return o, usage("--window %s is too small: at least %s, or an instruction might need more pages than there are frames", f.size.String(), least.String())
	}
	o.Window = uint64(f.size) / memory.PageSize * memory.PageSize
	if o.Window > ram {
		o.Window = ram
		whole := size(ram)
		slog.Warn(fmt.Sprintf("--window %s is more than guest RAM: %s it is, and nothing is hidden for long", f.size.String(), whole.String()))
	}
	return o, nil
}

// minAge keeps the window from doing nothing but looking for old pages.
const minAge = 10 * time.Millisecond
