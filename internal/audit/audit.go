// Package audit attacks the RAM of guests that offmap runs, and says what
// came of it. Each attack is made on a control as well, the same guest in
// ordinary memory: only where it succeeds there does its failure mean
// anything.
package audit

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"offmap/memory"
	"offmap/memory/attach"
	"offmap/memory/exposure"
)

// Config says what to audit.
type Config struct {
	Kernel  string // as `offmap run --kernel` takes it
	Memory  uint64 // bytes of guest RAM
	Backend memory.Backend
	Attach  attach.Method
	Window  uint64 // bytes, of attach.ViaWindow; 0 is its default
	Control memory.Backend
	// Outside scans the host's RAM from outside the host; nil where there is
	// no outside.
	Outside func(context.Context, exposure.Canary) (exposure.Hits, error)
	// Progress is told what is being done.
	Progress func(string)
}

// Avenue is one way of attack and what came of it.
type Avenue struct {
	Name     string  `json:"name"`
	Verdict  Verdict `json:"verdict"`
	Evidence string  `json:"evidence"`
	Errno    string  `json:"errno"`
	Control  Control `json:"control"`
}

// Control is what the same attack did to ordinary memory.
type Control struct {
	Backend  memory.Backend `json:"backend"`
	Verdict  Verdict        `json:"verdict"`
	Evidence string         `json:"evidence"`
}

// Result is an audit of one backend and attach.
type Result struct {
	Target, Control       Trial
	Avenues               []Avenue
	Before, During, After DirectMap
}

// Run makes the audit: the control's guest, then the target's.
func Run(ctx context.Context, c Config) (r Result, err error) {
	if r.Before, err = ReadDirectMap(); err != nil {
		return r, err
	}
	control := c
	control.Backend, control.Attach, control.Window = c.Control, attach.Auto, 0
	if r.Control, _, err = control.trial(ctx); err != nil {
		return r, err
	}
	if r.Target, r.During, err = c.trial(ctx); err != nil {
		return r, err
	}
	if r.After, err = ReadDirectMap(); err != nil {
		return r, err
	}
	a := Avenue{Name: "direct-map"}
	a.Verdict, a.Evidence = judge(r.Target, r.Control)
	a.Control.Backend = c.Control
	a.Control.Verdict, a.Control.Evidence = judge(r.Control, r.Control)
	r.Avenues = []Avenue{a}
	return r, nil
}

// trial runs one guest and scans for its canary while it lives and when it is
// gone. It also returns the direct map's layout while the guest lived.
func (c Config) trial(ctx context.Context) (t Trial, during DirectMap, err error) {
	t.Backend = c.Backend
	report, err := os.CreateTemp("", "offmap-audit-*.json")
	if err != nil {
		return t, during, err
	}
	defer os.Remove(report.Name())
	defer report.Close()

	c.say("%s: booting a guest that plants a canary", c.Backend)
	args := []string{
		"run", "--quiet", "--kernel", c.Kernel, "--memory", strconv.FormatUint(c.Memory, 10) + "B",
		"--backend", string(c.Backend), "--attach", string(c.Attach), "--append", "quiet",
		"--report", report.Name(),
	}
	if c.Window > 0 {
		args = append(args, "--window", strconv.FormatUint(c.Window, 10)+"B")
	}
	g, err := startGuest(ctx, args)
	if err != nil {
		return t, during, err
	}
	t.Planted = g.planted
	scanErr := c.scan(ctx, g.canary, "while the guest runs", &t.Alive, &t.OutsideAlive)
	during, mapErr := ReadDirectMap()
	for _, err := range []error{g.finish(), scanErr, mapErr} {
		if err != nil {
			return t, during, err
		}
	}
	t.Kept = g.kept
	if t.Attach, err = reportedAttach(report); err != nil {
		return t, during, err
	}
	return t, during, c.scan(ctx, g.canary, "after it is gone", &t.After, &t.OutsideAfter)
}

func (c Config) scan(ctx context.Context, canary exposure.Canary, when string, inside *exposure.Hits, outside **exposure.Hits) (err error) {
	c.say("%s: scanning the direct map %s", c.Backend, when)
	hits, err := exposure.ScanKcore(ctx, []exposure.Canary{canary}, nil)
	if err != nil {
		return err
	}
	*inside = hits[0]
	if c.Outside == nil {
		return nil
	}
	c.say("%s: scanning RAM from outside %s", c.Backend, when)
	found, err := c.Outside(ctx, canary)
	if err != nil {
		return fmt.Errorf("scan from outside: %w", err)
	}
	*outside = &found
	return nil
}

func (c Config) say(format string, args ...any) {
	if c.Progress != nil {
		c.Progress(fmt.Sprintf(format, args...))
	}
}

// DirectMap is how the kernel maps its RAM, in bytes by page size.
type DirectMap map[string]uint64

// ReadDirectMap reads the figures of /proc/meminfo: DirectMap4k, 2M and 1G.
func ReadDirectMap() (DirectMap, error) {
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return nil, err
	}
	m := DirectMap{}
	for line := range strings.Lines(string(info)) {
		var name string
		var kib uint64
		if n, _ := fmt.Sscanf(line, "DirectMap%s %d kB", &name, &kib); n == 2 {
			m[strings.ToLower(strings.TrimSuffix(name, ":"))] = kib << 10
		}
	}
	return m, nil
}
