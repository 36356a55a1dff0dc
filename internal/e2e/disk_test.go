package e2e

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"offmap/internal/measure/guestrun"
)

// Images for the guests of these tests: a file system with the program diskload, and an
// empty one. offmap itself can't make them, nor can the lab machine.
const (
	toolsImage = "tools.img"
	emptyImage = "empty.img"
)

// makeImages makes the images in dir.
func makeImages(t *testing.T, dir string) {
	t.Helper()
	mkfs := findProgram("mkfs.ext4")
	if mkfs == "" {
		t.Log("SKIPPED: no mkfs.ext4 (apt install e2fsprogs), so there are no tests of disks with a file system")
		return
	}
	content := t.TempDir()
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", filepath.Join(content, "diskload"), "offmap/internal/e2e/diskload")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, args := range [][]string{
		{"-d", content, filepath.Join(dir, toolsImage), "8M"},
		{filepath.Join(dir, emptyImage), "32M"},
	} {
		if out, err := exec.Command(mkfs, append([]string{"-q", "-F"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("mkfs.ext4: %v\n%s", err, out)
		}
	}
}

// findProgram finds a program that may be root's.
func findProgram(name string) string {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if path := filepath.Join(dir, name); exists(path) {
			return path
		}
	}
	return ""
}

// checkKilled checks the file systems of the guests that TestDiskKilled has killed.
func checkKilled(t *testing.T, dir string) {
	images, _ := filepath.Glob(filepath.Join(dir, "killed-*.img"))
	for _, image := range images {
		out, err := exec.Command(findProgram("e2fsck"), "-fn", image).CombinedOutput()
		t.Logf("e2fsck of %s: %s", filepath.Base(image), out)
		if err := errors.Join(err, os.Remove(image)); err != nil {
			t.Errorf("%s: %v", image, err)
		}
	}
}

// withDisks are the arguments of a guest that runs diskload's commands: its disks are
// the tools and the image.
func withDisks(p placing, disk, exec string) []string {
	exec = "mkdir -p /a /b && mount -t ext4 /dev/vda /a && " + exec
	return append(p.args(), "-k", guestKernel, "--append", quiet, "--disk", toolsImage+",overlay", "--disk", disk, "--exec", exec)
}

// needImages skips a test without images.
func needImages(t *testing.T) {
	t.Helper()
	needInside(t)
	if !exists(toolsImage) {
		t.Skip("SKIPPED: no mkfs.ext4 outside")
	}
}

// TestDiskMix makes requests of all kinds at once from a guest in hidden RAM. Guest and
// host agree on what is on the disk then, and nothing of it was in ordinary memory on
// the way.
func TestDiskMix(t *testing.T) {
	needImages(t)
	for _, p := range placings(t) {
		t.Run(p.String(), func(t *testing.T) {
			image := filepath.Join(t.TempDir(), "disk.img")
			if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 16<<20)); err != nil {
				t.Fatal(err)
			}
			d, r := report(t, 0, withDisks(p, image, "/a/diskload mix /dev/vdb")...)
			b, err := os.ReadFile(image)
			if err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("sha256: %x", sha256.Sum256(b)); !strings.Contains(r.stderr, want) {
				t.Errorf("the image has %s, and the guest says:\n%s", want, r.stderr)
			}
			checkDisk(t, d, "vdb", len(b))
			t.Logf("%v; %+v", r.took, d.Devices)
		})
	}
}

// checkDisk holds what the report says of a disk.
func checkDisk(t *testing.T, d *guestrun.Document, name string, size int) {
	t.Helper()
	for _, dev := range d.Devices {
		if dev.Name != name {
			continue
		}
		if dev.ReadBytes < uint64(size) || dev.WrittenBytes == 0 || dev.Requests["flush"] == 0 || dev.Requests["write-zeroes"] == 0 || dev.ExposedPeak != 0 {
			t.Errorf("%+v", dev)
		}
		return
	}
	t.Errorf("no %s in the report: %+v", name, d.Devices)
}

var flushedLine = regexp.MustCompile(`flushed (\d+)\r?\n`)

// TestDiskKilled kills VMMs while their guests write files. Each time the next guest
// finds every file that was flushed, and goes on. At the end the file system is clean,
// which is checked outside.
func TestDiskKilled(t *testing.T) {
	needImages(t)
	oneIsEnough(t, "6.1")
	image := filepath.Join(t.TempDir(), "disk.img")
	copyFile(t, emptyImage, image)
	last := -1
	const mount = "mount -t ext4 -o discard /dev/vdb /b"
	for i := range *kills {
		p := placing{"bridge", fmt.Sprint(1 + i/2%2)}
		if i%2 == 1 {
			p.attach = "window"
		}
		exec := mount
		if last >= 0 {
			exec += fmt.Sprintf(" && /a/diskload check /b %d", last)
		}
		exec += fmt.Sprintf(" && /a/diskload write /b %d", last+1)
		g := startRun(t, withDisks(p, image, exec)...)
		if last >= 0 {
			g.await(t, fmt.Sprint("checked up to ", last))
		}
		g.await(t, fmt.Sprintf("flushed %d", last+1+rand.IntN(30)))
		time.Sleep(rand.N(time.Second)) // at any moment of a write
		g.Process.Kill()
		if code := g.ended(); code != 128+9 {
			t.Fatalf("kill %d: the guest had ended by itself, exit code %d:\n%s", i, code, g.out.String())
		}
		all := flushedLine.FindAllStringSubmatch(g.out.String(), -1)
		n, err := strconv.Atoi(all[len(all)-1][1])
		if err != nil || n <= last {
			t.Fatalf("kill %d: %d flushed after %d: %v", i, n, last, err)
		}
		t.Logf("kill %d: %d files flushed", i, n-last)
		last = n
	}
	report(t, 0, withDisks(placing{"bridge", "1"}, image, fmt.Sprintf("%s && /a/diskload check /b %d && umount /b", mount, last))...)
	name := fmt.Sprintf("killed-%s.img", kernelRelease(t))
	copyFile(t, image, name+".part")
	if err := os.Rename(name+".part", name); err != nil {
		t.Fatal(err)
	}
}
