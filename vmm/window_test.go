package vmm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"offmap/memory"
	"offmap/memory/attach"
	"offmap/memory/attach/window"
	"offmap/memory/memtest"
	"offmap/memory/uffd"
)

var passes = flag.Uint64("passes", 2, "how often a payload goes over all of RAM behind a window")

// windowConfig is a machine with RAM behind a window, of its least size in most
// tests.
func windowConfig(t testing.TB, name string, cpus int, bound uint64, args ...uint64) Config {
	t.Helper()
	cfg := argsConfig(t, name, cpus, memory.MinSize, args...)
	cfg.Backend, cfg.Attach, cfg.Options.Window = memory.Secret, attach.ViaWindow, bound
	return cfg
}

// needWindow skips, loudly, where there is nothing to make a window from. A
// window that can't be made nevertheless is the tests' to find.
func needWindow(t testing.TB) {
	t.Helper()
	needKVM(t)
	if err := uffd.Probe(); err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	layout, err := memory.NewLayout(memory.MinSize)
	if err != nil {
		t.Fatal(err)
	}
	ram, err := memory.New(memory.Secret, layout)
	if err != nil {
		t.Skipf("SKIPPED: no secret memory: %v", err)
	}
	if err := ram.Close(); err != nil {
		t.Error(err)
	}
}

// beside is several things that go on beside a guest.
func beside(do ...func(context.Context, memory.Guest) error) func(context.Context, memory.Guest) error {
	return func(ctx context.Context, ram memory.Guest) error {
		var g errgroup.Group
		for _, f := range do {
			g.Go(func() error { return f(ctx, ram) })
		}
		return g.Wait()
	}
}

// windowFile finds the descriptor of this process's only window.
func windowFile() (int, error) {
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		return -1, err
	}
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && strings.HasPrefix(to, "/memfd:offmap-window") {
			var fd int
			_, err := fmt.Sscan(filepath.Base(l), &fd)
			return fd, err
		}
	}
	return -1, errors.New("this process has no window")
}

// heldPeak samples by the kernel's own count how many bytes of frames the
// window has, and keeps the most.
func heldPeak(most *uint64) func(context.Context, memory.Guest) error {
	return func(ctx context.Context, _ memory.Guest) error {
		fd, err := windowFile()
		if err != nil {
			return err
		}
		for ctx.Err() == nil {
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err != nil {
				return err
			}
			*most = max(*most, uint64(st.Blocks)*512)
			time.Sleep(20 * time.Microsecond)
		}
		return nil
	}
}

// device is a driver of a device that keeps a block in each page, where the
// guest has nothing: beside the guest's own words, which are updated at the
// same time.
type device struct {
	at    memory.GPA // of the block in its page
	turns uint64
	turn  [memory.MinSize / memory.PageSize]uint64 // by page: the last write
}

const blockSize = 512

// deviceWrites is how many a device makes at most. Natively a guest is through
// before it has; where all is emulated, the guest would hardly get on beside it.
const deviceWrites = 20_000

// block is what the device has written to a page.
func (d *device) block(page int64) []byte {
	b := make([]byte, 0, blockSize)
	for i := range uint64(blockSize / 8) {
		word := d.turn[page]
		if word != 0 {
			word = word<<32 | uint64(page)<<8 | i
		}
		b = binary.LittleEndian.AppendUint64(b, word)
	}
	return b
}

// check reads a page's block and holds it against the last write.
func (d *device) check(ram memory.Guest, page int64) error {
	got := make([]byte, blockSize)
	if _, err := ram.ReadAt(got, memory.GPA(page)*memory.PageSize+d.at); err != nil {
		return err
	}
	if !bytes.Equal(got, d.block(page)) {
		return fmt.Errorf("page %d: a device's write %d was lost or torn", page, d.turn[page])
	}
	return nil
}

func (d *device) run(ctx context.Context, ram memory.Guest) error {
	const first = occupied / memory.PageSize
	r := rand.New(rand.NewPCG(uint64(d.at), 1))
	wide := make([]byte, 3*memory.PageSize)
	for ctx.Err() == nil && d.turns < deviceWrites {
		page := first + r.Int64N(int64(len(d.turn))-first)
		if err := d.check(ram, page); err != nil {
			return err
		}
		d.turns++
		d.turn[page] = d.turns
		if _, err := ram.WriteAt(d.block(page), memory.GPA(page)*memory.PageSize+d.at); err != nil {
			return err
		}
		// What the guest writes at the same time is only looked at, across pages.
		if _, err := ram.ReadAt(wide, memory.GPA(r.Int64N(int64(memory.MinSize-len(wide))))); err != nil {
			return err
		}
		time.Sleep(10 * time.Microsecond) // the guest has to get on, too
	}
	for page := range d.turn {
		if err := d.check(ram, int64(page)); d.turn[page] != 0 && err != nil {
			return err
		}
	}
	return nil
}

// TestWindow runs payloads that check what they find in RAM, of which a window
// shows them a part. They say what was lost or torn, and so do devices that
// use the same pages.
func TestWindow(t *testing.T) {
	needWindow(t)
	const eighth = memory.MinSize / 8
	for _, c := range []struct {
		payload string
		cpus    int
		bound   uint64
		args    []uint64
		age     time.Duration
		devices bool
		says    string
	}{
		{"shuffle", 1, eighth, []uint64{*passes}, 0, false, " passes ok"},
		{"shuffle", 2, eighth, []uint64{*passes}, 0, true, " passes ok"},
		{"shuffle", 2, memory.MinSize, []uint64{*passes}, time.Millisecond, true, " passes ok"},
		{"shuffle", 1, window.MinSize, []uint64{1}, 0, false, " passes ok"},
		{"shuffle", 2, window.MinSize, []uint64{1}, 0, true, " passes ok"},
		{"shuffle", 4, window.MinSize, []uint64{1}, 0, false, " passes ok"},
		{"touch", 2, eighth, nil, 0, false, " ok"},
		{"touch", 4, window.MinSize, nil, 0, false, " ok"},
		{"zipf", 2, eighth, []uint64{0, 20_000}, 0, true, " accesses to "},
		{"churn", 1, eighth, []uint64{0, 2}, 0, false, " rounds over "},
		{"churn", 2, eighth, []uint64{0, 1, 1}, time.Millisecond, false, " rounds over "},
	} {
		name := fmt.Sprintf("%s/%d vCPUs/%d KiB", c.payload, c.cpus, c.bound>>10)
		if c.age != 0 {
			name += "/age"
		}
		if c.devices {
			name += "/devices"
		}
		t.Run(name, func(t *testing.T) {
			if testing.Short() && c.payload != "touch" && !(c.payload == "shuffle" && c.cpus == 2 && c.bound == eighth) {
				t.Skip("skipped: takes long where all is emulated")
			}
			if testing.Short() && c.payload == "shuffle" {
				c.args = []uint64{1} // a pass
			}
			cfg := windowConfig(t, c.payload, c.cpus, c.bound, c.args...)
			cfg.Options.WindowAge = c.age
			var held uint64
			do := []func(context.Context, memory.Guest) error{heldPeak(&held)}
			disks := []*device{{at: 2560}, {at: 3072}}
			if c.devices {
				for _, d := range disks {
					do = append(do, d.run)
				}
			}
			start := time.Now()
			r, out, _ := runPayload(t, cfg, beside(do...))
			t.Logf("%v, %+v, %d KiB held at the peak, %d by the kernel's count, %d and %d device writes",
				time.Since(start).Round(time.Millisecond), *r.Faults, r.ExposedPeak>>10, held>>10, disks[0].turns, disks[1].turns)
			if r.Outcome.Code != 0 || !strings.Contains(out, c.says) {
				t.Fatalf("exit code %d, %q doesn't say %q", r.Outcome.Code, out, c.says)
			}
			if held > c.bound || r.Exposed > c.bound || r.ExposedPeak > c.bound {
				t.Errorf("%d KiB of frames by the kernel's count, %d by ours, %d at the end: the bound is %d",
					held>>10, r.ExposedPeak>>10, r.Exposed>>10, c.bound>>10)
			}
			if c.age == 0 && held < c.bound/4 {
				t.Errorf("%d KiB of frames were seen at most: that is no look at a window of %d", held>>10, c.bound>>10)
			}
			if r.Populated < memory.MinSize*3/4 || r.Faults.Count < r.Populated/memory.PageSize/64 {
				t.Errorf("%d KiB populated, %d faults: it used little of its RAM", r.Populated>>10, r.Faults.Count)
			}
			// Where there is room for all, a page faults once on each vCPU at most.
			if c.age != 0 && r.Faults.Count < uint64(c.cpus)*r.Populated/memory.PageSize {
				t.Errorf("%d faults: no page went for its age", r.Faults.Count)
			}
			if c.devices && (disks[0].turns == 0 || disks[1].turns == 0) {
				t.Error("a device never wrote")
			}
		})
	}
}

// TestWindowStop ends guests that do nothing but thrash, from outside: they end,
// and nothing is left of them.
func TestWindowStop(t *testing.T) {
	needWindow(t)
	thrash := func() Config { return windowConfig(t, "shuffle", 4, window.MinSize, 1<<40) }
	stop := func(t *testing.T, after time.Duration) {
		m, err := New(thrash())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		var at time.Time
		time.AfterFunc(after, func() {
			for end := time.Now().Add(hang); m.attach.Faults().Count == 0 && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
			at = time.Now()
			cancel(errTooLong)
		})
		r, err := m.Run(ctx)
		if !errors.Is(err, errTooLong) || r.Outcome.Reason != Stopped {
			t.Errorf("%+v, %v; want the context's cause", r, err)
		}
		if r.Faults.Count == 0 {
			t.Error("it never faulted")
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		d := time.Since(at)
		if t.Logf("%v to stop", d); d > hang {
			t.Errorf("it took %v to stop", d)
		}
	}
	stop(t, 50*time.Millisecond) // what is made once
	leaks := memtest.Leaks(t)
	for i := range 5 {
		stop(t, time.Duration(20+i*17)*time.Millisecond)
	}
	leaks()
}
