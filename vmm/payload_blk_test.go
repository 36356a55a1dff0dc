package vmm

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"offmap/guest/payload"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/vmm/virtio"
	"offmap/vmm/virtio/blk"
)

// blkConfig is a machine whose guest drives a disk of the image, by these arguments.
func blkConfig(t *testing.T, image string, o blk.Options, args ...uint64) Config {
	t.Helper()
	cfg := argsConfig(t, "blk", 1, 32<<20, args...)
	if image != "" {
		disk, err := blk.Open(image, o)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Devices = []virtio.Device{disk}
	}
	return cfg
}

// patterned makes an image of n bytes with the pattern, or with zeros.
func patterned(t *testing.T, n int, pattern bool) string {
	t.Helper()
	var b []byte
	for at := 0; at < n; at += 8 {
		var w uint64
		if pattern {
			w = payload.BlkPattern(uint64(at))
		}
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDisk has a guest at CPL 3 read and write all of a disk, with its own checks of
// what it reads, and a look at the image after it has written.
func TestDisk(t *testing.T) {
	needKVM(t)
	const size = 8 << 20
	for _, pair := range []attach.Pair{{Backend: memory.Anon, Attach: attach.Direct}, {Backend: memory.Secret, Attach: attach.ViaWindow}, {Backend: memory.Secret, Attach: attach.ViaBridge}} {
		for _, c := range []struct {
			what, block, depth uint64
			requests           uint64
		}{
			{payload.BlkVerify, 0, 0, 64},
			{payload.BlkVerify | payload.BlkRandom, 4096, 64, 4000},
			{payload.BlkVerify | payload.BlkRandom, 512, 1, 200},
			{payload.BlkVerify | payload.BlkWrite, 0, 0, 64},
			{payload.BlkVerify | payload.BlkWrite, 4096, 7, 2048},
			{payload.BlkVerify | payload.BlkWrite, 1 << 20, 3, 8},
		} {
			t.Run(fmt.Sprintf("%s/%d-%d", pair, c.what, c.block), func(t *testing.T) {
				image := patterned(t, size, c.what&payload.BlkWrite == 0)
				cfg := blkConfig(t, image, blk.Options{}, c.what, c.block, c.requests, c.depth)
				cfg.Backend, cfg.Attach = pair.Backend, pair.Attach
				restoreProcess(t)
				var out strings.Builder
				cfg.Console = &out
				m, err := New(cfg)
				needAttach(t, err)
				defer m.Close()
				r, err := m.Run(t.Context())
				if err != nil || r.Outcome.Reason != PowerOff || r.Outcome.Code != 0 {
					t.Fatalf("%+v, %v\n%s", r.Outcome, err, &out)
				}
				var requests, block, cycles, speed uint64
				if n, err := fmt.Sscanf(out.String(), payload.BlkReport, &requests, &block, &cycles, &speed); n != 4 || requests != c.requests || cycles == 0 {
					t.Errorf("%q: %v", &out, err)
				}
				if c.what&payload.BlkWrite == 0 {
					return
				}
				b, err := os.ReadFile(image)
				if err != nil {
					t.Fatal(err)
				}
				for at := 0; at < size; at += 8 {
					if w := binary.LittleEndian.Uint64(b[at:]); w != payload.BlkPattern(uint64(at)) {
						t.Fatalf("the image has 0x%x at %d", w, at)
					}
				}
			})
		}
	}
}

// TestDiskCatches has a guest say what is wrong.
func TestDiskCatches(t *testing.T) {
	needKVM(t)
	spoilt := patterned(t, 8<<20, true)
	f, err := os.OpenFile(spoilt, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{1, 2, 3}, 5<<20+16); err != nil {
		t.Fatal(err)
	}
	f.Close()
	plain := patterned(t, 8<<20, false)
	small := patterned(t, 512, false)
	for _, c := range []struct {
		name, image string
		options     blk.Options
		args        []uint64
		code        int
		says        string
	}{
		{"no disk", "", blk.Options{}, nil, 2, "has no disk: --disk FILE"},
		{"one byte", spoilt, blk.Options{}, []uint64{payload.BlkVerify}, 1, "request at sector 10240 read 0x"},
		{"spoilt, unread", spoilt, blk.Options{}, nil, 0, "blk: 64 requests of 131072 bytes"},
		{"no pattern", plain, blk.Options{}, []uint64{payload.BlkVerify}, 1, "request at sector 0 read 0x0 instead of 0x9e3779b97f4a7c15"},
		{"read-only", plain, blk.Options{ReadOnly: true}, []uint64{payload.BlkWrite}, 2, "read-only"},
		{"read-only, read", plain, blk.Options{ReadOnly: true}, nil, 0, "done and checked"},
		{"small", small, blk.Options{}, nil, 2, "smaller than a request"},
		{"odd", plain, blk.Options{}, []uint64{0, 1000}, 2, "multiple of 512"},
		{"large", plain, blk.Options{}, []uint64{0, 2 << 20}, 2, "at most 1 MiB"},
		{"deep", plain, blk.Options{}, []uint64{0, 0, 0, 65}, 2, "at most 64"},
		{"too much", plain, blk.Options{}, []uint64{0, 1 << 20, 0, 64}, 2, "too little RAM"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, out, err := run(t.Context(), t, blkConfig(t, c.image, c.options, c.args...))
			if err != nil || r.Outcome.Reason != PowerOff || r.Outcome.Code != c.code || !strings.Contains(out, c.says) {
				t.Errorf("%+v, %v, %q", r.Outcome, err, out)
			}
		})
	}
}

// TestDiskFails has an image become shorter behind the disk's back.
func TestDiskFails(t *testing.T) {
	needKVM(t)
	image := patterned(t, 8<<20, true)
	cfg := blkConfig(t, image, blk.Options{})
	if err := os.Truncate(image, 4<<20); err != nil {
		t.Fatal(err)
	}
	r, out, err := run(t.Context(), t, cfg)
	if err != nil || r.Outcome.Code != 1 || !strings.Contains(out, "request at sector 8192 failed with status 1") {
		t.Errorf("%+v, %v, %q", r.Outcome, err, out)
	}
}
