package e2e

import (
	"flag"
	"os"

	"slices"
	"strings"
	"testing"
	"time"

	"offmap/internal/lab/debian"
)

// vmxGuest is the kernel image of a guest in the machine with VMX, which has no cache.
var vmxGuest = flag.String("guest", "", "the image of a guest's kernel, for TestVMX")

// vmxSeries is the kernel that the machine with VMX is booted with. With -soak, it is each.
const vmxSeries = "6.12"

// TestLabVMX runs TestVMX on hosts with Intel's VMX.
func TestLabVMX(t *testing.T) {
	offmap := needLab(t)
	self := buildTest(t, "internal/e2e", t.TempDir())
	guest, err := debian.Cached(strings.TrimPrefix(guestKernel, "debian:"))
	if err != nil {
		t.Fatal(err)
	}
	hosts := []string{vmxSeries}
	if *soak > 0 {
		hosts = series()
	}
	for _, s := range hosts {
		t.Run(s, func(t *testing.T) {
			limit := timeLeft(t)
			bad, err := runMachine("vmx "+s, "", offmap, "lab", "--machine", "vmx", "--memory", "768", "--kernel", s, "--timeout", limit.String(), "-v", "--program", self, "--",
				"-test.v", "-test.timeout="+(limit-time.Minute).String(), "-test.run=^TestVMX$", "-inside", "-guest="+guest.Image)
			if err != nil {
				t.Fatalf("%v\n%s", err, strings.Join(bad, "\n"))
			}
		})
	}
}

// TestVMX runs guests in hidden RAM where kvm_intel runs them. The kernel's log and the
// module's end are the lab's to check.
func TestVMX(t *testing.T) {
	needInside(t)
	if text, err := os.ReadFile("/proc/cpuinfo"); err != nil || !strings.Contains(string(text), " vmx ") {
		t.Skipf("skipped: a host with VMX is what it is for (%v)", err)
	}
	for _, tt := range []struct {
		name  string
		args  []string
		codes []int // any of them
		says  string
		never string
	}{
		{"hello", []string{"--payload", "hello"}, []int{0}, "hello from vCPU 0", ""},
		{"touch", []string{"--payload", "touch"}, []int{0}, " ok", ""},
		{"guard", []string{"--payload", "kvmclock"}, []int{0}, "#GP", "accepted"},
		{"hostile", []string{"--payload", "hostile", "--timeout", "20s"}, []int{0, 32, 33, 124}, "seed ", ""},
		{"linux", []string{"-m", "256", "-k", *vmxGuest, "--append", quiet, "--exec", "cat /proc/meminfo; dmesg"}, []int{0}, "MemTotal", "unchecked MSR"},
	} {
		for _, attach := range []string{"bridge", "window"} {
			t.Run(tt.name+"/"+attach, func(t *testing.T) {
				args := append([]string{"run", "--backend", "secret", "--attach", attach, "-m", "32"}, tt.args...)
				cmd := command(t, patience, "/lab/bin/offmap", args...)
				out, err := cmd.CombinedOutput()
				if cmd.ProcessState == nil {
					t.Fatal(err)
				}
				code := cmd.ProcessState.ExitCode()
				said := string(out)
				if !slices.Contains(tt.codes, code) || !strings.Contains(said, tt.says) || tt.never != "" && strings.Contains(said, tt.never) {
					t.Errorf("exit code %d, want %v; it says %q: want %q, never %q", code, tt.codes, said, tt.says, tt.never)
				}
				lines := strings.Split(strings.TrimSpace(said), "\n")
				t.Logf("exit code %d, %s", code, lines[len(lines)-1])
			})
		}
	}
	t.Run("audit", func(t *testing.T) {
		out, err := command(t, patience, "/lab/bin/offmap", "audit", "--only", "direct-map", "--attach", "bridge").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "blocked") || !strings.Contains(string(out), "EXPOSED") {
			t.Errorf("%v\n%s", err, out)
		}
		t.Logf("%s", out)
	})
}
