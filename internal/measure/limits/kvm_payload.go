package limits

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"offmap/guest/payload"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/vmm"
	"offmap/vmm/boot"
)

// runPayload runs an embedded guest with guestSize bytes of RAM to its end,
// and returns its exit code and what it said. change, if not nil, is called
// when the guest is loaded.
func runPayload(ctx context.Context, b memory.Backend, method attach.Method, name string, cfg boot.PayloadConfig, change func(memory.Guest, boot.CPU) error) (code int, said string, err error) {
	p, err := payload.Lookup(name)
	if err != nil {
		return 0, "", err
	}
	cfg.Ring = p.Ring
	return runImage(ctx, b, method, p.Image(), cfg, change)
}

// runImage does so with a guest's code.
func runImage(ctx context.Context, b memory.Backend, method attach.Method, image []byte, cfg boot.PayloadConfig, change func(memory.Guest, boot.CPU) error) (code int, said string, err error) {
	var console bytes.Buffer
	load := boot.PayloadLoader(image, cfg)
	m, err := vmm.New(vmm.Config{
		Memory: guestSize, Backend: b, Attach: method, Console: &console, Dumpable: true,
		Guest: func(ram memory.Guest, n, khz int) ([]boot.CPU, error) {
			cpus, err := load(ram, n, khz)
			if err == nil && change != nil {
				err = change(ram, cpus[0])
			}
			return cpus, err
		},
	})
	if err != nil {
		return 0, "", lacking(err)
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	r, err := m.Run(ctx)
	if err == nil && r.Outcome.Reason != vmm.PowerOff {
		err = fmt.Errorf("a test guest ended with %s: %s", r.Outcome.Reason, r.Outcome.Detail)
	}
	return r.Outcome.Code, console.String(), err
}
