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

// windowFlags are the flags of attach window.
type windowFlags struct {
	size size
	age  time.Duration
}

func (f *windowFlags) addSize(fl *pflag.FlagSet) {
	fl.Var(&f.size, "window", "attach window: the most guest RAM in ordinary memory at a time (default a quarter of guest RAM)")
}

func (f *windowFlags) add(fl *pflag.FlagSet) {
	f.addSize(fl)
	fl.DurationVar(&f.age, "window-age", 0, "attach window: evict pages that aren't used for this long (0: only when frames run out)")
}

// options returns the options of the flags, or an error if the guest can't have them.
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
		return o, usage("--window %s is too small: at least %s, because an instruction can need that many pages at once", f.size.String(), least.String())
	}
	o.Window = uint64(f.size) / memory.PageSize * memory.PageSize
	if o.Window > ram {
		o.Window = ram
		whole := size(ram)
		slog.Warn(fmt.Sprintf("--window %s is more than guest RAM: the window is %s, and pages that the guest uses stay exposed", f.size.String(), whole.String()))
	}
	return o, nil
}

// minAge is the least --window-age. With less, the pager would do little but unmap
// pages.
const minAge = 10 * time.Millisecond
