package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"offmap/internal/lab/debian"
)

// ending is a way in which a Linux guest ends, or stays.
type ending struct {
	way    string // for people
	append string // to the kernel's command line
	exec   string // and what to do there
	flags  []string
	timed  bool // it is --timeout that ends it
	rare   bool // with -soak only

	reason string // in the report
	code   int
	says   string // on stderr
}

const (
	saysReset = "the guest asked for a reset"
	saysHalt  = "the guest halted"
	saysPanic = "the guest's kernel panicked"
	saysCode  = "the guest ended with exit code %d, its own"
	sysrqC    = `: "Kernel panic - not syncing: sysrq triggered crash"`
)

// endings is the first table of docs/ending.md, which TestEndingsDoc holds
// against it.
var endings = []ending{
	{way: "`--exec 'exit 3'`", exec: "exit 3", reason: "poweroff", code: 3, says: fmt.Sprintf(saysCode, 3)},
	{way: "`poweroff`", rare: true, exec: "poweroff", reason: "poweroff"},
	{way: "`poweroff`, without ACPI", rare: true, append: "acpi=off", exec: "poweroff", reason: "halt", says: saysHalt},
	{way: "`halt`", rare: true, exec: "halt", reason: "halt", says: saysHalt},
	{way: "`halt`, 2 vCPUs", rare: true, exec: "halt", flags: []string{"-c", "2"}, reason: "halt", says: saysHalt},
	{way: "`reboot`", exec: "reboot", reason: "reset", code: 32, says: saysReset},
	{way: "`reboot`, without ACPI", rare: true, append: "acpi=off", exec: "reboot", reason: "reset", code: 32, says: saysReset},
	{way: "`reboot`, `reboot=acpi`", rare: true, append: "reboot=a", exec: "reboot", reason: "reset", code: 32, says: saysReset},
	{way: "`reboot`, `reboot=bios`", rare: true, append: "reboot=b", exec: "reboot", reason: "reset", code: 32, says: saysReset},
	{way: "`reboot`, `reboot=bios`, 2 vCPUs", rare: true, append: "reboot=b", exec: "reboot", flags: []string{"-c", "2"}, reason: "reset", code: 32, says: saysReset},
	{way: "`reboot`, `reboot=efi`", rare: true, append: "reboot=e", exec: "reboot", reason: "reset", code: 32, says: saysReset},
	{way: "`reboot`, `reboot=force`", rare: true, append: "reboot=f", exec: "reboot", reason: "reset", code: 32, says: saysReset},
	{way: "`reboot`, `reboot=kbd`", rare: true, append: "reboot=k", exec: "reboot", reason: "reset", code: 32, says: saysReset},
	{way: "`reboot`, `reboot=pci`", rare: true, append: "reboot=p", exec: "reboot", reason: "reset", code: 32, says: saysReset},
	{way: "`reboot`, `reboot=q`", rare: true, append: "reboot=q", exec: "reboot", reason: "reset", code: 32, says: saysReset},
	{way: "`reboot`, `reboot=triple`", rare: true, append: "reboot=t", exec: "reboot", reason: "reset", code: 32, says: saysReset},
	{way: "`reboot`, `reboot=warm`", rare: true, append: "reboot=w", exec: "reboot", reason: "reset", code: 32, says: saysReset},
	{way: "SysRq b", rare: true, exec: "echo b > /proc/sysrq-trigger", reason: "reset", code: 32, says: saysReset},
	{way: "SysRq o", rare: true, exec: "echo o > /proc/sysrq-trigger", reason: "poweroff"},
	{way: "a triple fault", append: "reboot=t", exec: "echo b > /proc/sysrq-trigger", reason: "crash", code: 33, says: "the guest crashed: triple fault of vCPU 0"},
	{way: "SysRq c, a panic", exec: "echo c > /proc/sysrq-trigger", reason: "panic", code: 34, says: saysPanic + sysrqC},
	{way: "a panic, `--console virtio`", rare: true, exec: "echo c > /proc/sysrq-trigger", flags: []string{"--console", "virtio"}, reason: "panic", code: 34, says: saysPanic + sysrqC},
	{way: "a panic, `loglevel=0`", rare: true, append: "loglevel=0", exec: "echo c > /proc/sysrq-trigger", reason: "panic", code: 34, says: saysPanic + `: "it printed no reason on its console"`},
	{way: "a panic, `reboot=triple`", rare: true, append: "reboot=t", exec: "echo c > /proc/sysrq-trigger", reason: "panic", code: 34, says: saysPanic + sysrqC},
	{way: "a panic, `panic=5`", rare: true, append: "panic=5", exec: "echo c > /proc/sysrq-trigger", reason: "panic", code: 34, says: saysPanic + sysrqC},
	{way: "a panic, `panic=0`, and then `--timeout`", append: "panic=0", exec: "echo c > /proc/sysrq-trigger", timed: true,
		reason: "panic", code: 34, says: saysPanic + ", and was still running when its time was over" + sysrqC},
	{way: "suspend-to-idle, and then `--timeout`", rare: true, exec: "echo freeze > /sys/power/state", timed: true, reason: "stopped", code: 124, says: "timeout: the guest was still running"},
	{way: "none, and then `--timeout`", rare: true, exec: ":", timed: true, reason: "stopped", code: 124, says: "timeout: the guest was still running"},
	{way: "idle for 20 s, 2 vCPUs", rare: true, exec: "sleep 20; exit 5", flags: []string{"-c", "2"}, reason: "poweroff", code: 5, says: fmt.Sprintf(saysCode, 5)},
	{way: "idle for 20 s, and a vCPU taken offline", rare: true, exec: "echo 0 > /sys/devices/system/cpu/cpu1/online && sleep 20; exit 5",
		flags: []string{"-c", "2"}, reason: "poweroff", code: 5, says: fmt.Sprintf(saysCode, 5)},
}

// TestEndings ends Linux guests in every way: of 6.1 and of 7.x, each on a host
// of the same.
func TestEndings(t *testing.T) {
	needInside(t)
	oneIsEnough(t, "7") // it boots a guest for each way
	guest := endingKernel(t)
	for _, e := range endings {
		t.Run(e.way, func(t *testing.T) {
			if e.rare && *soak == 0 {
				t.Skip("skipped: wants -soak")
			}
			args := []string{"run", "--json", "-m", "256", "-k", guest, "--backend", "secret",
				"--append", strings.TrimSpace(quiet + " " + e.append), "--exec", "echo up; " + e.exec + "; sleep 1000"}
			timeout := patience * 3 / 4
			if e.timed {
				timeout = 20 * time.Second
			}
			r := offmapRun(t, append(args, append(e.flags, "--timeout", timeout.String())...)...)
			// A slow machine may not have got there yet.
			for ; e.timed && !(strings.Contains(r.stderr, "up\r\n") && strings.Contains(r.stderr, e.says)) && timeout < patience/2; timeout *= 2 {
				r = offmapRun(t, append(args, append(e.flags, "--timeout", (2*timeout).String())...)...)
			}
			if !strings.Contains(r.stdout, `"reason": "`+e.reason+`"`) || r.code != e.code || e.says != "" && !strings.Contains(r.stderr, "offmap: "+e.says) {
				t.Errorf("exit code %d, want %s with %d, and %q said\n%s\n%s", r.code, e.reason, e.code, e.says, r.stdout, r.stderr)
			}
			if e.timed && !strings.Contains(r.stderr, "vCPU 0 ") {
				t.Errorf("what the guest was doing isn't said:\n%s", r.stderr)
			}
			t.Logf("%v", r.took)
		})
	}
}

// endingKernel is the guest of the lab's kernel, in the labs that end guests.
func endingKernel(t *testing.T) string {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	switch release := unix.ByteSliceToString(u.Release[:]); {
	case strings.HasPrefix(release, "6.1."):
		return guestKernel
	case strings.HasPrefix(release, "7."):
		return "debian:7.x"
	}
	t.Skip("skipped: the oldest kernel and the newest are enough")
	return ""
}

// TestEndingsDoc holds the document's table against what TestEndings tests.
func TestEndingsDoc(t *testing.T) {
	text, err := os.ReadFile("../../docs/ending.md")
	if err != nil {
		if *inside {
			t.Skip("skipped: the documents aren't in the lab")
		}
		t.Fatal(err)
	}
	var want strings.Builder
	want.WriteString("| what the guest does | offmap says | exit code | `exit.reason` |\n|---|---|---|---|\n")
	for _, e := range endings {
		fmt.Fprintf(&want, "| %s | %s | %d | `%s` |\n", e.way, e.says, e.code, e.reason)
	}
	if !strings.Contains(string(text), want.String()) {
		t.Errorf("docs/ending.md lacks the table\n%s", want.String())
	}
}

// TestBrokenKernel boots a kernel that can't be unpacked, and halts. That is no way
// to end.
func TestBrokenKernel(t *testing.T) {
	needInside(t)
	onlyOn(t, "7")
	k, err := debian.Cached(strings.TrimPrefix(guestKernel, "debian:"))
	if err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(k.Image)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4096 {
		image[len(image)/2+i] ^= 0xff
	}
	broken := filepath.Join(t.TempDir(), "vmlinuz")
	if err := os.WriteFile(broken, image, 0o600); err != nil {
		t.Fatal(err)
	}
	r := offmapRun(t, "run", "-k", broken, "--backend", "secret", "--timeout", "2m")
	if r.code != 33 || !strings.Contains(r.stderr, "the guest crashed: all vCPUs are halted with interrupts off") {
		t.Errorf("exit code %d\n%s\n%s", r.code, r.stdout, r.stderr)
	}
}

// TestStandstill stops the VMM of an idle guest for a while. The guest goes on
// where it was.
func TestStandstill(t *testing.T) {
	needInside(t)
	onlyOn(t, "7")
	g := startRun(t, linux("secret", "echo now idle; sleep 10; exit 5", "-c", "2")...)
	g.await(t, "now idle\r\n")
	for range 3 {
		g.Process.Signal(syscall.SIGSTOP)
		time.Sleep(4 * time.Second)
		g.Process.Signal(syscall.SIGCONT)
		time.Sleep(time.Second)
	}
	if code := g.ended(); code != 5 {
		t.Errorf("exit code %d, want 5\n%s", code, g.out.String())
	}
}
