package e2e

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"offmap/internal/measure/guestrun"
)

// random fills a file with bytes that nothing else has.
func random(t *testing.T, path string, size int) []byte {
	t.Helper()
	b := make([]byte, size)
	rand.NewChaCha8(sha256.Sum256([]byte(path))).Read(b)
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return b
}

// sameFile holds that a file has these bytes.
func sameFile(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	} else if !bytes.Equal(got, want) {
		n := 0
		for n < min(len(got), len(want)) && got[n] == want[n] {
			n++
		}
		t.Errorf("%s has other bytes from offset %d on (%d bytes, want %d)", path, n, len(got), len(want))
	}
}

// TestDevices gives a guest three disks and two shares at once, and moves the data of
// each to another one.
func TestDevices(t *testing.T) {
	needInside(t)
	const size = 4 << 20
	for _, p := range placings(t) {
		t.Run(p.String(), func(t *testing.T) {
			dir := t.TempDir()
			path := func(name string) string { return filepath.Join(dir, name) }
			for _, d := range []string{"in", "out, too"} {
				if err := os.Mkdir(path(d), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			read, written, kept := random(t, path("read.img"), size), random(t, path("written.img"), size), random(t, path("kept.img"), size)
			shared := random(t, path("in/file"), size)

			d, r := report(t, 7, "-k", guestKernel, "--append", quiet, "--backend", "secret", "--attach", p.attach, "--cpus", p.cpus,
				"--disk", path("read.img,ro"), "--disk", path("written.img"), "--disk", path("kept.img,overlay"),
				"--share", path("in"), "--share", path("out,, too=out,rw"), "--rng",
				"--exec", `set -e
dd if=/dev/vda of=/mnt/out/disk bs=256K
dd if=/mnt/in/file of=/dev/vdb bs=256K
dd if=/dev/vda of=/dev/vdc bs=256K
dd if=/dev/hwrng of=/mnt/out/random bs=64 count=1
sync
echo 3 > /proc/sys/vm/drop_caches
dd if=/dev/vdc of=/mnt/out/overlay bs=256K
dd if=/mnt/in/file of=/dev/vda count=1 && exit 1
touch /mnt/in/new && exit 1
exit 7`)
			sameFile(t, path("out, too/disk"), read)
			sameFile(t, path("out, too/overlay"), read)
			sameFile(t, path("written.img"), shared)
			sameFile(t, path("kept.img"), kept)
			sameFile(t, path("read.img"), read)
			if b, err := os.ReadFile(path("out, too/random")); err != nil || len(b) != 64 || bytes.Equal(b, make([]byte, 64)) {
				t.Errorf("random bytes: %x, %v", b, err)
			}
			if bytes.Equal(read, written) || bytes.Equal(read, shared) || bytes.Equal(read, kept) || bytes.Equal(shared, written) {
				t.Error("some of the test's files are the same, and so it sees nothing")
			}
			if p.attach == "bridge" && (d.Exposed != 0 || d.ExposedPeak != 0) {
				t.Errorf("%d bytes exposed, %d at the peak", d.Exposed, d.ExposedPeak)
			}
			wantDevices(t, d, []guestrun.Device{
				{Kind: guestrun.Disk, Name: "vda", ReadOnly: true}, {Kind: guestrun.Disk, Name: "vdb"}, {Kind: guestrun.Disk, Name: "vdc", Overlay: true},
				{Kind: guestrun.Share, Name: "in", ReadOnly: true}, {Kind: guestrun.Share, Name: "out"},
				{Kind: guestrun.Entropy, Name: "hwrng"},
			}, [][2]uint64{{size, 0}, {0, size}, {size, size}, {size, 0}, {0, 2 * size}, {64, 0}})
			if t.Failed() {
				t.Logf("%s", r.stderr)
			}
		})
	}
}

// wantDevices holds that a report has these devices, and that the guest has read and
// written at least so many bytes of each.
func wantDevices(t *testing.T, d *guestrun.Document, want []guestrun.Device, bytes [][2]uint64) {
	t.Helper()
	if len(d.Devices) != len(want) {
		t.Fatalf("%d devices in the report, want %d: %+v", len(d.Devices), len(want), d.Devices)
	}
	for i, got := range d.Devices {
		w := want[i]
		if got.Kind != w.Kind || got.Name != w.Name || got.ReadOnly != w.ReadOnly || got.Overlay != w.Overlay || len(got.Requests) == 0 {
			t.Errorf("device %d is %+v, want %+v", i, got, w)
		}
		if got.ReadBytes < bytes[i][0] || got.WrittenBytes < bytes[i][1] {
			t.Errorf("%s %s: read %d, written %d, want at least %d", got.Kind, got.Name, got.ReadBytes, got.WrittenBytes, bytes[i])
		}
	}
}
