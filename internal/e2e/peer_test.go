package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"offmap/guest/initramfs"
	"offmap/internal/debian"
)

// peerPackage is the VMM that boots are compared with: small, and in Go too.
const peerPackage = "github.com/bobuhiro11/gokvm"

// preparePeer puts what TestPeer boots into dir: the peer, the guest's kernel
// and its initramfs as files.
func preparePeer(t *testing.T, dir, offmap string) {
	t.Helper()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "gokvm"), peerPackage)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", peerPackage, err, out)
	}
	series := strings.TrimPrefix(guestKernel, "debian:")
	k, err := debian.GetKernel(t.Context(), series, nil)
	if err != nil {
		t.Fatal(err)
	}
	copyFile(t, k.Image, filepath.Join(dir, "vmlinuz"))
	initrd, err := initramfs.New(initramfs.Options{Init: offmap})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "initrd"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, initrd); err != nil {
		t.Fatal(err)
	}
}

// toMarker runs a VMM until its console says that userland is there, and
// returns how long that took from the start of the process. None is returned
// where the marker didn't come.
func toMarker(t *testing.T, name string, args ...string) (time.Duration, bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stderr = &said
	start := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "offmap: userland") {
			return time.Since(start), true
		}
		fmt.Fprintln(&said, lines.Text())
	}
	t.Logf("%s: no userland after %v:\n%s", name, time.Since(start), said.String())
	return 0, false
}

var tscWord = regexp.MustCompile(`tsc_early_khz=\d+`)

// TestPeer boots one kernel, initrd and command line on offmap and on the
// peer, in turns, in ordinary memory.
func TestPeer(t *testing.T) {
	needInside(t)
	if *boots < 5 {
		t.Skip("SKIPPED: wants -boots=5 or more")
	}
	tsc := tscWord.FindString(offmapRun(t, append([]string{"run", "-v"}, linux("anon", "true")...)...).stderr)
	if tsc == "" {
		t.Fatal("offmap run -v doesn't say tsc_early_khz")
	}
	cmdline := "console=ttyS0 quiet panic=-1 noapic noacpi no_timer_check tsc=reliable rdinit=/init " + tsc
	var own, peer []float64
	lost := 0
	for range *boots {
		d, ok := toMarker(t, "./offmap", "run", "-q", "-k", "vmlinuz", "-i", "initrd", "-m", "512", "--backend", "anon", "--cmdline", cmdline)
		if !ok {
			t.Fatal("offmap lost a boot")
		}
		own = append(own, d.Seconds()*1000)
		if d, ok := toMarker(t, "./gokvm", "boot", "-k", "vmlinuz", "-i", "initrd", "-m", "512M", "-c", "1", "-p", cmdline); ok {
			peer = append(peer, d.Seconds()*1000)
		} else {
			lost++
		}
	}
	if len(peer) == 0 {
		t.Fatal("the peer booted not once")
	}
	fmt.Printf("process start to userland, ms, medians of %d, interleaved: offmap anon %.0f, gokvm %.0f (%d of its boots lost), ratio %.2f\n",
		*boots, median(own), median(peer), lost, median(own)/median(peer))
	if median(own) > median(peer) {
		t.Errorf("offmap takes longer than the peer")
	}
}
