package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"offmap/guest/payload"
	"offmap/kvm"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/vmm"
	"offmap/vmm/boot"
)

// guestRun is a payload's run in a machine of its own.
type guestRun struct {
	vmm.Result
	Said   string        // on its console
	TSCKHz int           // of its TSC
	Took   time.Duration // from its first word, EventUserland, to its end
}

// runPayload runs an embedded payload with size bytes of RAM until it ends the
// guest by itself, with exit code 0.
func runPayload(ctx context.Context, s Subject, name string, cpus int, size uint64, args ...uint64) (guestRun, error) {
	return guest{payload: name, cpus: cpus, size: size, args: args}.run(ctx, s)
}

// guest is an embedded payload and the machine to run it in.
type guest struct {
	payload string
	args    []uint64
	cpus    int
	size    uint64 // bytes of RAM
	options attach.Options
	// prepare, if not nil, has RAM before the payload is put there.
	prepare func(memory.Guest) error
}

// run runs it until it ends by itself, with exit code 0.
func (g guest) run(ctx context.Context, s Subject) (r guestRun, err error) {
	p, err := payload.Lookup(g.payload)
	if err != nil {
		return r, err
	}
	var console bytes.Buffer
	start := time.Now()
	m, err := vmm.New(vmm.Config{
		Memory: g.size, CPUs: g.cpus, Backend: s.Backend, Attach: s.Attach, Options: g.options, Console: &console,
		Guest: func(ram memory.Guest, cpus, tscKHz int) ([]boot.CPU, error) {
			r.TSCKHz = tscKHz
			if g.prepare != nil {
				if err := g.prepare(ram); err != nil {
					return nil, err
				}
			}
			return boot.Payload(ram, p.Image(), boot.PayloadConfig{CPUs: cpus, Ring: p.Ring, Args: g.args})
		},
	})
	if err != nil {
		return r, cannot(err)
	}
	r.Result, err = m.Run(ctx)
	r.Took = time.Since(start) - r.ToUserland
	err = errors.Join(err, m.Close())
	r.Said = console.String()
	if o := r.Outcome; err == nil && (o.Reason != vmm.PowerOff || o.Code != 0) {
		err = fmt.Errorf("payload %s ended with %s %d: %s %s", g.payload, o.Reason, o.Code, o.Detail, r.Said)
	}
	return r, err
}

// nanoseconds converts cycles of the guest's TSC.
func (r guestRun) nanoseconds(cycles uint64) float64 {
	return float64(cycles) * 1e6 / float64(r.TSCKHz)
}

// cannot has an error that says that this host lacks something wrap ErrCannot.
func cannot(err error) error {
	_, noKVM := errors.AsType[*kvm.OpenError](err)
	lacks := noKVM
	for _, lack := range []error{
		attach.ErrUnavailable, memory.ErrUnavailable, memory.ErrSecretDisabled, memory.ErrSecretAbsent,
		memory.ErrMemlock, memory.ErrTooLarge,
	} {
		lacks = lacks || errors.Is(err, lack)
	}
	if lacks {
		return fmt.Errorf("%w: %w", ErrCannot, err)
	}
	return err
}
