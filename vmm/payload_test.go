package vmm

import (
	"bytes"
	"context"
	"testing"
	"time"

	"offmap/guest/payload"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/vmm/boot"
)

func runPayload(t *testing.T, name string, cpus int, size uint64, b memory.Backend) (Result, string) {
	t.Helper()
	p, err := payload.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	var console bytes.Buffer
	m, err := New(Config{
		Memory: size, CPUs: cpus, Backend: b, Attach: attach.Auto, Console: &console,
		Guest: func(ram memory.Guest, cpus, _ int) ([]boot.CPU, error) {
			return boot.Payload(ram, p.Image(), boot.PayloadConfig{CPUs: cpus, Ring: p.Ring})
		},
		Warn: func(err error) { t.Error(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := m.Run(ctx)
	if err != nil {
		t.Fatalf("%v; console:\n%s", err, console.String())
	}
	return r, console.String()
}

func TestHello(t *testing.T) {
	r, out := runPayload(t, "hello", 2, 64<<20, memory.Memfd)
	t.Logf("%+v\n%s", r, out)
}

func TestTouch(t *testing.T) {
	r, out := runPayload(t, "touch", 2, 256<<20, memory.Memfd)
	t.Logf("%+v\n%s", r, out)
}
