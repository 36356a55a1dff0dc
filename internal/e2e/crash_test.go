package e2e

import (
	"debug/elf"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/audit/canary"
	"offmap/guest/initramfs"
	"offmap/internal/lab/debian"
	"offmap/memory"
)

var (
	crash    = flag.Bool("crash", false, "with -inside: crash the kernel, for a crash kernel to look at it")
	canaries = flag.String("canaries", "", "what TestVmcore looks for, as BACKEND=CANARY,...")
)

// crashed are the guests that a kernel crashes with, in how many pages of its
// direct map each one's canary is before, and of the dump after: memory that the
// kernel couldn't read is in that like any other, and what wasn't its own is not.
// The crash kernel is loaded before the late ones start, and after the others. That
// decides what memory the dump has.
var crashed = []struct {
	name          string
	backend       memory.Backend
	late          bool
	before, after int // pages
}{
	{name: "memfd", backend: memory.Memfd, before: planted, after: planted},
	{name: "secret", backend: memory.Secret, after: planted},
	{name: "reserved", backend: memory.Reserved},
	{name: "removed", backend: memory.Removed},
	{name: "removed-later", backend: memory.Removed, late: true, after: planted},
}

// TestLabCrash shows who still reads secret memory: the kernel that comes after
// a crash.
func TestLabCrash(t *testing.T) {
	offmap := needLab(t)
	dir := t.TempDir()
	copyFile(t, offmap, filepath.Join(dir, "offmap"))
	self := buildTest(t, "internal/e2e", dir)
	hosts := series()
	if *soak == 0 {
		hosts = hosts[len(hosts)-1:] // the newest is enough
	}
	for _, series := range hosts {
		cmd := command(t, 3*patience, offmap, "lab", "--kernel", series, "--memory", "1536",
			"--append", "memmap=128M$0x30000000 crashkernel=256M@512M "+loadedLow, "--timeout", (2 * patience).String(),
			"--program", self, "--", "-test.v", "-test.run=^TestCrash$", "-inside", "-crash")
		cmd.Dir = dir
		out, _ := cmd.CombinedOutput() // the lab's kernel is gone
		for _, c := range crashed {
			if want := inVmcore(c.name, c.after); !strings.Contains(string(out), want) {
				t.Errorf("%s: no %q\n%s", series, want, out)
			}
		}
	}
}

func inVmcore(name string, pages int) string {
	return fmt.Sprintf("the canary of %s is in %d pages of the dump", name, pages)
}

// TestCrash crashes the kernel under guests of which it can read one.
func TestCrash(t *testing.T) {
	needInside(t)
	if !*crash {
		t.Skip("skipped: it is the end of the kernel (TestLabCrash)")
	}
	setUntil(t, "/sys/devices/system/memory/auto_online_blocks", "online")
	var masked []string
	var sought []canary.Canary
	var late [][]string
	for _, c := range crashed {
		args, canary := planter(t, planted, true)
		// Of removed memory, each guest has a block of its own.
		args = append(args, "--backend", string(c.backend), "-m", "128")
		masked = append(masked, fmt.Sprintf("%s=%v", c.name, canary))
		sought = append(sought, canary)
		if c.late {
			late = append(late, args)
			continue
		}
		startRun(t, args...).await(t, plantedLine)
	}
	loadCrashKernel(t, "-test.run=^TestVmcore$ -inside -canaries="+strings.Join(masked, ","))
	for _, args := range late {
		startRun(t, args...).await(t, plantedLine)
	}
	hits, err := canary.ScanKcore(t.Context(), sought, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range crashed {
		if n := hits[i].Pages; n != c.before {
			t.Fatalf("before the crash the canary of %s is in %d pages of the direct map, want %d", c.name, n, c.before)
		}
	}
	t.Fatal(os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0), "and the kernel is still here")
}

// loadCrashKernel arms a kernel with this program as its process 1
// (kexec_file_load(2)).
func loadCrashKernel(t *testing.T, args string) {
	t.Helper()
	k, err := debian.Cached(strings.TrimPrefix(guestKernel, "debian:"))
	if err != nil {
		t.Fatal(err)
	}
	image, err := os.Open(k.Image)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	root, err := initramfs.New(initramfs.Options{Init: self})
	if err != nil {
		t.Fatal(err)
	}
	archive, err := io.ReadAll(root)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(path, archive, 0o600); err != nil {
		t.Fatal(err)
	}
	initrd, err := os.Open(path) // a file that can be written is "busy"
	if err != nil {
		t.Fatal(err)
	}
	defer initrd.Close()
	words := "console=ttyS0 quiet panic=-1 nr_cpus=1 reset_devices rdinit=/init -- " + args
	if err := unix.KexecFileLoad(int(image.Fd()), int(initrd.Fd()), words, unix.KEXEC_FILE_ON_CRASH); err != nil {
		t.Fatalf("kexec_file_load: %v", err)
	}
}

// TestVmcore is process 1 of a crash kernel: it searches what there was before
// the crash, says so on the console, and ends the machine.
func TestVmcore(t *testing.T) {
	needInside(t)
	if *canaries == "" {
		t.Skip("skipped: wants a crash kernel (TestLabCrash)")
	}
	if err := searchVmcore(t); err != nil {
		fmt.Println("TestVmcore:", err)
	}
	t.Fatal(unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART))
}

func searchVmcore(t *testing.T) error {
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	f, err := os.Open("/proc/vmcore")
	if err != nil {
		return err
	}
	defer f.Close()
	core, err := elf.NewFile(f)
	if err != nil {
		return err
	}
	var ram []canary.Range
	for _, p := range core.Progs {
		// The kernel's own mapping of itself is of RAM that is in another.
		const kernelMap = 0xffffffff80000000
		if p.Type == elf.PT_LOAD && p.Vaddr < kernelMap {
			ram = append(ram, canary.Range{Off: int64(p.Off), Len: int64(p.Filesz) &^ 7, Addr: p.Paddr})
		}
	}
	var names []string
	var sought []canary.Canary
	for _, word := range strings.Split(*canaries, ",") {
		name, masked, _ := strings.Cut(word, "=")
		c, err := canary.Parse(masked)
		if err != nil {
			return err
		}
		names, sought = append(names, name), append(sought, c)
	}
	hits, err := canary.Scan(t.Context(), f, ram, sought, nil)
	for i, h := range hits {
		fmt.Printf("%s, %d MiB\n", inVmcore(names[i], h.Pages), h.Scanned>>20)
	}
	return err
}
