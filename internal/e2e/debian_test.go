package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"offmap/internal/lab/debian"
)

// debianImage is the root file system of a Debian, made by debootstrap, in the
// directory that the lab sees.
const debianImage = "debian.img"

// debianPackages are what a minimal Debian lacks of what it takes to log in: an init,
// and udev, which finds the terminal for it.
const debianPackages = "systemd-sysv,udev"

// fetchDebian puts the image into dir, if a test wants it. It is made once, and kept in
// the cache.
func fetchDebian(t *testing.T, dir string) {
	t.Helper()
	wanted, err := regexp.Compile(*only)
	if err != nil || !slices.ContainsFunc([]string{"TestDebianDisk", "TestShareRoot"}, wanted.MatchString) {
		return
	}
	cache, err := debian.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(cache, "e2e", debianImage)
	if !exists(image) {
		if os.Geteuid() != 0 {
			t.Logf("SKIPPED, no Debian on a disk: debootstrap needs root")
			return
		}
		makeDebian(t, image)
	}
	// The lab sees the cache too.
	if err := os.Symlink(image, filepath.Join(dir, debianImage)); err != nil {
		t.Fatal(err)
	}
}

// makeDebian makes the image.
func makeDebian(t *testing.T, image string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(image), 0o755); err != nil {
		t.Fatal(err)
	}
	work, err := os.MkdirTemp(filepath.Dir(image), "debian-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(work)
	tree := filepath.Join(work, "root")
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
	}
	run("debootstrap", "--variant=minbase", "--include="+debianPackages, "bookworm", tree, mirror())
	// Root logs in without a password.
	run("chroot", tree, "passwd", "-d", "root")
	if err := os.WriteFile(filepath.Join(tree, "etc/hostname"), []byte("guest\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"var/cache/apt/archives", "var/lib/apt/lists"} {
		if err := os.RemoveAll(filepath.Join(tree, dir)); err != nil {
			t.Fatal(err)
		}
	}
	made := filepath.Join(work, debianImage)
	run("mkfs.ext4", "-q", "-d", tree, made, "640M")
	if err := os.Rename(made, image); err != nil {
		t.Fatal(err)
	}
}

// mirror returns where this machine gets its Debian from.
func mirror() string {
	out, _ := exec.Command("apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)").Output()
	for line := range strings.Lines(string(out)) {
		if site, release, _ := strings.Cut(strings.TrimSpace(line), " "); release == "bookworm" {
			return site
		}
	}
	return "http://deb.debian.org/debian"
}

// TestDebianDisk boots Debian from a disk, and logs in.
func TestDebianDisk(t *testing.T) {
	needInside(t)
	if !exists(debianImage) {
		t.Skip("SKIPPED: no image of Debian")
	}
	if *soak == 0 {
		t.Skip("skipped: wants -soak, as a boot takes minutes")
	}
	for _, p := range placings(t) {
		t.Run(p.String(), func(t *testing.T) {
			g := startRun(t, "-k", guestKernel, "--backend", "secret", "--attach", p.attach, "--cpus", p.cpus,
				"--disk", debianImage+",overlay", "--append", "root=/dev/vda rw "+quiet)
			logIn(t, g)
		})
	}
}

// logIn waits for Debian's login prompt, logs in, and has the guest power off.
func logIn(t *testing.T, g *guest) {
	t.Helper()
	g.await(t, "guest login:")
	g.say(t, "root")
	g.await(t, "root@guest:")
	g.say(t, "echo on $(stat -c %d /)$(cat /etc/hostname); sync; poweroff")
	g.await(t, "guest\r\n")
	if code := g.ended(); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, g.out.String())
	}
}

// say types a line.
func (g *guest) say(t *testing.T, line string) {
	t.Helper()
	if _, err := fmt.Fprintln(g.input, line); err != nil {
		t.Fatal(err)
	}
}
