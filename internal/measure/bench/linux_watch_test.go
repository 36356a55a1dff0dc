package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"offmap/guest/protocol"
)

// Parts of shell scripts that take the place of a VMM.
var (
	scriptUserland = "echo '" + protocol.UserlandLine + "'; "
	scriptStart    = "echo '" + protocol.ExitsStart(5) + "'; "
	scriptWrites   = "echo '" + protocol.ExitsLine(5, 1234) + "'; "
	scriptBoots    = scriptUserland + scriptStart + scriptWrites
	scriptStays    = `exec sleep 1000`
)

func script(s string) vmmProgram {
	return vmmProgram{path: "/bin/sh", args: []string{"sh", "-c", s}}
}

func TestBoot(t *testing.T) {
	for _, tt := range []struct {
		name, script string
	}{
		{"stays", scriptBoots + scriptStays},
		{"ends", scriptBoots},
		{"carriage returns", `printf 'offmap: userland\r\noffmap: 5 exits from here\r\noffmap: 5 exits in 1234 ns\r\n'; ` + scriptStays},
		{"other lines", `echo '[ 0.1] offmap: userland'; echo; ` + scriptUserland + `echo 'offmap: 5 exits in 99'; ` + scriptStart + `echo oops; ` + scriptWrites + scriptStays},
		{"an endless line", `head -c 100000 /dev/zero; echo; ` + scriptBoots + scriptStays},
		{"noise on stderr", `head -c 100000 /dev/zero >&2; ` + scriptBoots + scriptStays},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			b, err := script(tt.script).boot(t.Context(), 5)
			if err != nil {
				t.Fatal(err)
			}
			if b.userland <= 0 || b.userland > time.Since(start) || b.cpu < 0 || b.writes != 1234 {
				t.Errorf("%+v", b)
			}
		})
	}
}

// TestBootTakesTime has a guest that uses CPU time before userland.
func TestBootTakesTime(t *testing.T) {
	b, err := script("echo 'not offmap: userland'; sleep 0.1; i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done; "+scriptBoots+scriptStays).boot(t.Context(), 5)
	if err != nil {
		t.Fatal(err)
	}
	if b.cpu < time.Millisecond || b.userland < b.cpu+80*time.Millisecond {
		t.Errorf("%v to userland with %v of CPU time, want 100 ms more", b.userland, b.cpu)
	}
}

func TestBootFails(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		own          bool
		cannot       int
		says         string
		is, isnt     []error
	}{
		{name: "a peer dies", script: `echo 'no KVM \033[2J' >&2; exit 1`, says: `no KVM \x1b[2J`, is: []error{ErrLost}, isnt: []error{ErrCannot}},
		{name: "a peer dies later", script: scriptUserland + scriptStart + `kill -9 $$`, says: "killed", is: []error{ErrLost}},
		{name: "a peer that can't", script: `echo 'no KVM' >&2; exit 1`, cannot: 1, says: "no KVM", is: []error{ErrCannot}, isnt: []error{ErrLost}},
		{name: "offmap dies", script: `exit 1`, own: true, cannot: 4, says: "exit status 1", isnt: []error{ErrLost, ErrCannot}},
		{name: "offmap that can't", script: `exit 4`, own: true, cannot: 4, is: []error{ErrCannot}},
		{name: "offmap fails in the end", script: scriptBoots + `exit 3`, own: true, cannot: 4, says: "exit status 3", isnt: []error{ErrLost, ErrCannot}},
		{name: "too few writes", script: scriptUserland + scriptStart + `echo 'offmap: 4 exits in 1234 ns'; ` + scriptStays, says: "4 times, not 5"},
		{name: "a clock that races", script: scriptUserland + scriptStart + `echo 'offmap: 5 exits in 2000000000 ns'; ` + scriptStays, says: "clock is wrong"},
		{name: "a clock that crawls", script: scriptUserland + scriptStart + `sleep 1; ` + scriptWrites + scriptStays, says: "clock is wrong"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := script(tt.script)
			v.own, v.cannot = tt.own, tt.cannot
			_, err := v.boot(t.Context(), 5)
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("%v, want an error with %q", err, tt.says)
			}
			for _, want := range tt.is {
				if !errors.Is(err, want) {
					t.Errorf("%v isn't %v", err, want)
				}
			}
			for _, not := range tt.isnt {
				if errors.Is(err, not) {
					t.Errorf("%v is %v", err, not)
				}
			}
		})
	}
	v := vmmProgram{path: "/nonexistent", args: []string{"vmm"}}
	if _, err := v.boot(t.Context(), 5); !errors.Is(err, ErrCannot) {
		t.Errorf("a program that isn't there: %v", err)
	}
}

// TestBootStops ends a boot that hangs, by its deadline and by the user.
func TestBootStops(t *testing.T) {
	// The script needs more time on a busy machine.
	var err error
	for limit := time.Second; limit < time.Minute && !strings.Contains(fmt.Sprint(err), "userland"); limit *= 3 {
		ctx, cancel := context.WithTimeoutCause(t.Context(), limit, errors.New("took too long"))
		_, err = script(scriptUserland+scriptStays).boot(ctx, 5)
		cancel()
	}
	if !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "took too long") || !strings.Contains(err.Error(), "userland") {
		t.Errorf("at the deadline: %v", err)
	}
	ctx2, stop := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, stop)
	if _, err := script(scriptStays).boot(ctx2, 5); err != context.Canceled {
		t.Errorf("stopped: %v", err)
	}
}

// TestBootPVM checks that a boot which would take an hour is refused.
func TestBootPVM(t *testing.T) {
	e := &Env{Host: fakeHost("pvm")}
	e.Host.KVM = "pvm"
	if _, err := bootLinux(t.Context(), e, memfd); !errors.Is(err, ErrCannot) {
		t.Errorf("%v, want %v", err, ErrCannot)
	}
}

// TestVMMs checks that all VMMs boot the same guest.
func TestVMMs(t *testing.T) {
	g := linuxGuest{kernel: "K", initrd: "I", tscKHz: 7, writes: 5, report: "R"}
	e := &Env{Peers: map[Peer]string{Gokvm: "/gokvm", MicroVM: "/qemu", Q35: "/qemu"}}
	for _, s := range linuxBootScenarios()[0].Subjects(e, []Subject{memfd, secret}) {
		v, err := g.vmmFor(e, s)
		if err != nil {
			t.Fatal(err)
		}
		line := " " + strings.Join(v.args, " ") + " "
		for _, word := range []string{" K ", " I ", " 512", " tsc_early_khz=7 ", " offmap.exec=ZXhpdHMgLW4gNQ ", " console=ttyS0 "} {
			if !strings.Contains(line, word) {
				t.Errorf("%s: no %q in %s", s, word, line)
			}
		}
		if own := s.Peer == ""; v.own != own || own != strings.Contains(line, " --backend "+string(s.Backend)+" --attach "+string(s.Attach)) {
			t.Errorf("%s: %+v", s, v)
		}
	}
	if _, err := g.vmmFor(e, plainC); !errors.Is(err, ErrCannot) {
		t.Errorf("C boots Linux: %v", err)
	}
}

func TestSumResident(t *testing.T) {
	const smaps = `00400000-00500000 r-xp 00000000 08:01 1 /a b
Size:               1024 kB
Rss:                 100 kB
VmFlags: rd ex mr mw me
7f0000000000-7f0020000000 rw-p 00000000 00:00 0
Rss:              200000 kB
7f0030000000-7f0030001000 rw-p 00000000 00:00 0 [stack]
Rss:                   4 kB
`
	for _, tt := range []struct {
		text string
		want uint64
		bad  bool
	}{
		{text: smaps, want: 104 << 10},
		{text: ""},
		{text: "x-y r\n", bad: true},
		{text: "2-1 r\n", bad: true},
		{text: "1-2 r\nRss: 1 MB\n", bad: true},
		{text: "1-2 r\nRss: -1 kB\n", bad: true},
	} {
		got, err := sumResident(strings.NewReader(tt.text), 512<<20)
		if got != tt.want || (err != nil) != tt.bad {
			t.Errorf("%q: %d, %v; want %d", tt.text, got, err, tt.want)
		}
	}
}

func TestResidentOfNobody(t *testing.T) {
	if r := resident(1<<30, 1); !math.IsNaN(r) {
		t.Errorf("%g bytes", r)
	}
	if _, err := cpuTime(1 << 26); err == nil {
		t.Error("CPU time")
	}
}
