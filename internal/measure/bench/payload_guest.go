package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"offmap/guest/payload"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/vmm"
	"offmap/vmm/boot"
	"offmap/vmm/virtio"
)

// payloadGuest is an embedded payload and the configuration of its machine.
type payloadGuest struct {
	payload string
	args    []uint64
	cpus    int
	size    uint64 // bytes of RAM
	options attach.Options
	devices []virtio.Device // the guest closes them
	event   func(byte)      // see vmm.Config.Event
	// load loads the payload into RAM; nil means guest.place.
	load func(ram memory.Guest, p payload.Payload, khz int) ([]boot.CPU, error)
	// native makes it an error if KVM interpreted the guest.
	native bool
	// inspect, if not nil, is called with RAM and the TSC's frequency after a
	// successful run.
	inspect func(ram memory.Guest, khz int) error
}

// guestRun is the result of a payload's run.
type guestRun struct {
	vmm.Result
	Said   string        // the console's output
	TSCKHz int           // the TSC's frequency
	Took   time.Duration // from EventUserland to the end
}

// place loads the payload into RAM with its arguments.
func (g payloadGuest) place(ram memory.Guest, p payload.Payload, _ int) ([]boot.CPU, error) {
	return boot.Payload(ram, p.Image(), boot.PayloadConfig{CPUs: g.cpus, Ring: p.Ring, Args: g.args})
}

// run runs the payload until it ends. An exit code other than 0 is an error.
func (g payloadGuest) run(ctx context.Context, s Subject) (r guestRun, err error) {
	p, err := payload.Lookup(g.payload)
	if err != nil {
		return r, err
	}
	if g.load == nil {
		g.load = g.place
	}
	var (
		console bytes.Buffer
		ram     memory.Guest
	)
	start := time.Now()
	m, err := vmm.New(vmm.Config{
		Memory: g.size, CPUs: g.cpus, Backend: s.Backend, Attach: s.Attach, Options: g.options, Devices: g.devices, Console: &console, Event: g.event, Dumpable: true,
		Guest: func(mem memory.Guest, _, tscKHz int) ([]boot.CPU, error) {
			ram, r.TSCKHz = mem, tscKHz
			return g.load(mem, p, tscKHz)
		},
	})
	if err != nil {
		return r, cannot(err)
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	r.Result, err = m.Run(ctx)
	r.Took = time.Since(start) - r.ToUserland
	r.Said = console.String()
	if err != nil {
		return r, err
	}
	if g.native { // first, because an interpreted guest may fail in any way
		if err := checkNative(r.Result); err != nil {
			return r, err
		}
	}
	if o := r.Outcome; o.Reason != vmm.PowerOff || o.Code != 0 {
		return r, fmt.Errorf("payload %s ended with %s %d: %s", g.payload, o.Reason, o.Code, strings.TrimSpace(o.Detail+" "+r.Said))
	}
	if g.inspect != nil {
		return r, g.inspect(ram, r.TSCKHz)
	}
	return r, nil
}

// nanoseconds converts cycles of the guest's TSC to nanoseconds.
func (r guestRun) nanoseconds(cycles uint64) float64 {
	return float64(cycles) * 1e6 / float64(r.TSCKHz)
}

// possible returns an error if the guest counted more cycles than can have passed by
// the host's clock: the guest's TSC then runs at another rate than KVM reports. The
// guest may have run for longer than it counted.
func (r guestRun) possible(cycles uint64) error {
	if counted := time.Duration(r.nanoseconds(cycles)); cycles == 0 || counted > r.Took+r.Took/50 {
		return r.clockError(counted)
	}
	return nil
}

// likely is possible for a guest that did little besides what it counted. It also
// returns an error if the guest counted too few cycles.
func (r guestRun) likely(cycles uint64) error {
	if counted := time.Duration(r.nanoseconds(cycles)); counted < r.Took/2-50*time.Millisecond {
		return r.clockError(counted)
	}
	return r.possible(cycles)
}

func (r guestRun) clockError(counted time.Duration) error {
	return fmt.Errorf("%w: %v by the TSC at %d kHz, %v by the clock", errClock, counted, r.TSCKHz, r.Took)
}

// scan parses a guest's output, which must be format with numbers in it and nothing
// else.
func scan(said, format string, numbers ...*uint64) error {
	into, values := make([]any, len(numbers)), make([]any, len(numbers))
	for i, n := range numbers {
		into[i] = n
	}
	_, err := fmt.Sscanf(said, format, into...)
	for i, n := range numbers {
		values[i] = *n
	}
	if err != nil || fmt.Sprintf(format, values...) != said {
		return fmt.Errorf("the guest's output %.200q is not a report (%v)", said, err)
	}
	return nil
}

// cannot makes an error wrap ErrCannot if it says that this host lacks something.
func cannot(err error) error {
	if errors.Is(err, memory.ErrUnavailable) {
		return fmt.Errorf("%w: %w", ErrCannot, err)
	}
	return err
}
