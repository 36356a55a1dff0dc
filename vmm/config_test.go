package vmm

import (
	"bytes"
	"errors"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/memory"
	"offmap/vmm/virtio/rng"
)

// TestZeroConfig runs a machine of which nothing is said but its guest.
func TestZeroConfig(t *testing.T) {
	needKVM(t)
	var console bytes.Buffer
	restoreProcess(t)
	m, err := New(Config{Guest: payloadConfig(t, "hello", 0, 0).Guest, Console: &console})
	needAttach(t, err)
	defer m.Close()
	if b, n, size := m.ram.Backend(), len(m.cpus), m.ram.Layout().Size(); b != memory.Secret || n != 1 || size != DefaultMemory {
		t.Errorf("%d bytes of %s memory and %d vCPUs", size, b, n)
	}
	r, err := m.Run(t.Context())
	if err != nil || r.Outcome.Reason != PowerOff || !strings.Contains(console.String(), "vCPU 0") {
		t.Errorf("%+v, %v, %q", r.Outcome, err, console.String())
	}
}

// TestProcess holds what New and Run change in this process, and that they can be
// told not to.
func TestProcess(t *testing.T) {
	needKVM(t)
	for _, c := range []struct {
		name       string
		backend    memory.Backend
		leave      bool
		devices    int
		undumpable bool
		procs      int
	}{
		{"secret", memory.Secret, false, 0, true, 2},
		{"secret, left to the caller", memory.Secret, true, 1, false, 1},
		{"ordinary", memory.Memfd, false, 0, false, 2},
		{"devices", memory.Memfd, false, 2, false, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			restoreProcess(t)
			if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
				t.Fatal(err)
			}
			runtime.GOMAXPROCS(1)
			cfg := payloadConfig(t, "hello", 1, 32<<20)
			cfg.Backend, cfg.Dumpable, cfg.KeepProcs = c.backend, c.leave, c.leave
			for range c.devices {
				source, err := rng.New()
				if err != nil {
					t.Fatal(err)
				}
				cfg.Devices = append(cfg.Devices, source)
			}
			m, err := New(cfg)
			needAttach(t, err)
			defer m.Close()
			if _, err := m.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
			if err != nil || (dumpable == 0) != c.undumpable {
				t.Errorf("PR_GET_DUMPABLE: %d, %v", dumpable, err)
			}
			if n := runtime.GOMAXPROCS(0); n != c.procs {
				t.Errorf("GOMAXPROCS is %d, want %d", n, c.procs)
			}
		})
	}
}

// needAttach skips a test where this host can't have the machine.
func needAttach(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, memory.ErrUnavailable) {
		t.Skipf("SKIPPED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// restoreProcess has a test leave this process as it was.
func restoreProcess(t *testing.T) {
	procs := runtime.GOMAXPROCS(0)
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		runtime.GOMAXPROCS(procs)
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, uintptr(dumpable), 0, 0, 0); err != nil {
			t.Error(err)
		}
	})
}
