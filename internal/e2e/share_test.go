package e2e

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/internal/lab/debian"
)

// shareGuests calls f for kernels that have virtio-fs built in: with -soak for all of
// them, else for one on the oldest lab kernel, and for another one on the newest.
func shareGuests(t *testing.T, f func(t *testing.T, series string, p placing)) {
	series := []string{"6.12", "7.x"}
	switch {
	case *soak > 0:
	case kernelIs(t, "6.1"):
		series = series[:1]
	default:
		series = series[1:]
	}
	for _, s := range series {
		for _, p := range placings(t) {
			t.Run(s+"/"+p.String(), func(t *testing.T) { f(t, s, p) })
		}
	}
}

// plantTree makes files of many sizes, in directories and with links.
func plantTree(t *testing.T, dir string) {
	t.Helper()
	for i := range 40 {
		sub := filepath.Join(dir, fmt.Sprint(i%5), fmt.Sprint(i%3))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		random(t, filepath.Join(sub, fmt.Sprint("file", i)), 13*i<<(i%12))
		if err := os.Symlink(fmt.Sprintf("../0/file%d", i), filepath.Join(sub, fmt.Sprint("link", i))); err != nil {
			t.Fatal(err)
		}
	}
}

// treeSums returns what is in a tree: checksums of files, and what links say.
func treeSums(t *testing.T, dir string) (sums string, bytes uint64) {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			fmt.Fprintf(&b, "%s -> %s %v\n", rel, target, err)
		case d.Type().IsRegular():
			data, err := os.ReadFile(path)
			fmt.Fprintf(&b, "%s %x %v\n", rel, sha256.Sum256(data), err)
			bytes += uint64(len(data))
		default:
			fmt.Fprintf(&b, "%s %v\n", rel, d.Type())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), bytes
}

// TestShareTree has guests copy a tree from one share to another, and remove it.
func TestShareTree(t *testing.T) {
	needInside(t)
	shareGuests(t, func(t *testing.T, series string, p placing) {
		dir := t.TempDir()
		for _, d := range []string{"in", "out"} {
			if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		plantTree(t, filepath.Join(dir, "in"))
		before, size := treeSums(t, filepath.Join(dir, "in"))
		d, r := report(t, 5, "-k", "debian:"+series, "--append", quiet, "--backend", "secret", "--attach", p.attach, "--cpus", p.cpus,
			"--share", filepath.Join(dir, "in"), "--share", filepath.Join(dir, "out")+",rw", "--exec", `set -e
cp -r -P /mnt/in /mnt/out/copy
cp -r -P /mnt/out/copy /mnt/out/gone
rm -r /mnt/out/gone
mv /mnt/out/copy /mnt/out/moved
rm /mnt/in/0/0/file0 && exit 1
touch /mnt/in/new && exit 1
exit 5`)
		after, _ := treeSums(t, filepath.Join(dir, "in"))
		if copied, _ := treeSums(t, filepath.Join(dir, "out/moved")); before != after || before != copied {
			t.Errorf("the tree was\n%s\nnow it is\n%s\nand its copy\n%s", before, after, copied)
		}
		if left, err := os.ReadDir(filepath.Join(dir, "out")); err != nil || len(left) != 1 {
			t.Errorf("beside the copy: %v, %v", left, err)
		}
		if p.attach == "bridge" && d.ExposedPeak != 0 {
			t.Errorf("%d bytes exposed at the peak", d.ExposedPeak)
		}
		if in, out := d.Devices[0], d.Devices[1]; in.ReadBytes < size || in.WrittenBytes != 0 || out.WrittenBytes < 2*size || in.Requests["lookup"] == 0 {
			t.Errorf("the tree has %d bytes: %+v, %+v", size, in, out)
		}
		if t.Failed() {
			t.Logf("%s", r.stderr)
		}
	})
}

// TestShareRoot boots Debian from a share, without an initramfs.
func TestShareRoot(t *testing.T) {
	needInside(t)
	if !exists(debianImage) {
		t.Skip("SKIPPED: no image of Debian")
	}
	oneIsEnough(t, "7") // a boot takes minutes
	root := t.TempDir()
	mountImage(t, debianImage, root)
	bin, err := filepath.Glob(filepath.Join(root, "usr/bin/[a-c]*"))
	if err != nil || len(bin) < 10 {
		t.Fatalf("programs in the image: %v, %v", bin, err)
	}
	var all []byte
	for _, path := range bin {
		if st, err := os.Lstat(path); err != nil || !st.Mode().IsRegular() {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data...)
	}
	want := fmt.Sprintf("sum %x", sha256.Sum256(all))
	shareGuests(t, func(t *testing.T, series string, p placing) {
		k, err := debian.Cached(series)
		if err != nil {
			t.Fatal(err)
		}
		const script = `mount -t proc proc /proc; grep ' / ' /proc/mounts; touch /new; ` +
			`set -- $(find /usr/bin -name '[a-c]*' -type f | sort | xargs cat | sha256sum); echo sum $1; poweroff -ff`
		r := offmapRun(t, "run", "-k", k.Image, "--backend", "secret", "--attach", p.attach, "--cpus", p.cpus,
			"--timeout", (patience * 3 / 4).String(), "--share", root+"=root",
			"--append", quiet+` rootfstype=virtiofs root=root ro init=/bin/sh -- -c "`+script+`"`)
		if r.code != 0 || !strings.Contains(r.stdout, want) || !strings.Contains(r.stdout, " / virtiofs ro") || !strings.Contains(r.stdout, "Read-only file system") {
			t.Errorf("exit code %d, want %s\n%s\n%s", r.code, want, r.stdout, r.stderr)
		}
	})
}

// mountImage mounts a file system in a file, read-only, for the time of the test.
func mountImage(t *testing.T, image, dir string) {
	t.Helper()
	path := loopDevice(t, image, unix.LO_FLAGS_READ_ONLY)
	if err := unix.Mount(path, dir, "ext4", unix.MS_RDONLY, "noload"); err != nil {
		t.Fatalf("mount %s: %v", image, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
}
