package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"offmap/internal/measure/probe"
	"offmap/kvm"
)

// doctorSays is a report of doctor.
type doctorSays struct{ *probe.Document }

// check returns a check's status, and its detail and fix.
func (d doctorSays) check(t *testing.T, name string) (status probe.Status, says string) {
	t.Helper()
	for _, c := range d.Checks {
		if c.Name == name {
			return c.Status, c.Detail + "\n" + c.Fix
		}
	}
	t.Fatalf("no check %q in %+v", name, d.Checks)
	return "", ""
}

// trial returns what came of a pair, such as secret+bridge.
func (d doctorSays) trial(t *testing.T, pair string) probe.Trial {
	t.Helper()
	for _, trial := range d.Backends {
		if trial.Pair.String() == pair {
			return trial
		}
	}
	t.Fatalf("%s wasn't tried: %+v", pair, d.Backends)
	return probe.Trial{}
}

// readDoctor reads a report and holds it to what every one of them promises.
func readDoctor(t *testing.T, text string) doctorSays {
	t.Helper()
	d, err := probe.Read(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	if len(d.Checks) == 0 || len(d.Attach) != 3 || len(d.Backends) < 5 {
		t.Errorf("not a whole report:\n%s", text)
	}
	for _, c := range d.Checks {
		if c.Detail == "" || !slices.Contains([]probe.Status{probe.OK, probe.Warn, probe.Fail, probe.Skip}, c.Status) {
			t.Errorf("%+v", c)
		}
	}
	for _, b := range d.Backends {
		if b.Works == (b.Reason != "") || b.Works == (b.Needs != "") {
			t.Errorf("%+v", b)
		}
	}
	return doctorSays{d}
}

// TestDoctor has doctor look at each of the lab's kernels.
func TestDoctor(t *testing.T) {
	needInside(t)
	r := offmapRun(t, "doctor", "--json", "-m", "64")
	if r.code != 0 {
		t.Errorf("exit code %d\n%s", r.code, r.stderr)
	}
	d := readDoctor(t, r.stdout)
	if d.Host.KVM != "svm" || d.Host.Accel != "tcg" {
		t.Errorf("host: %+v", d.Host)
	}
	if b := d.trial(t, "secret+direct"); b.Works || b.Errno != "EFAULT" || !strings.Contains(b.Reason, "GUP") {
		t.Errorf("%+v", b)
	}
	for _, pair := range []string{"anon+direct", "memfd+direct", "secret+bridge", "secret+window"} {
		if b := d.trial(t, pair); !b.Works {
			t.Errorf("%+v", b)
		}
	}
	if a := d.Attach; a["direct"].Works || !a["bridge"].Works || !a["window"].Works {
		t.Errorf("attach: %+v", a)
	}
	for name, want := range map[string]string{
		"kvm": "version 12", "kvm-flavour": "AMD-V", "kvm-native": "guest kernels run natively, guest programs run natively",
		"kvm-guard": "", "memfd-secret": "", "memlock": "processes of user 0 have used", "memory": "64 MiB of secret",
		"module": "this program's ABI", "userfaultfd": "", "swap": "no swap", "kcore": "opens", "lockdown": "off", "hibernation": "",
	} {
		if status, says := d.check(t, name); status != "ok" || !strings.Contains(says, want) {
			t.Errorf("%s: %s, %q, want %q", name, status, says, want)
		}
	}
	if status, says := d.check(t, "init-on-free"); status != "warn" || !strings.Contains(says, "init_on_alloc is o") {
		t.Errorf("Debian's kernels don't wipe what is freed, and say so in their log: %s, %q", status, says)
	}
}

// TestDoctorCodes asks for guests that can be had and for others.
func TestDoctorCodes(t *testing.T) {
	needInside(t)
	oneIsEnough(t, middle)
	codes := map[string]int{
		"--backend secret":                       0,
		"--backend secret --attach direct":       3,
		"--backend secret --attach bridge":       0,
		"--backend secret --attach window":       0,
		"--backend anon":                         0,
		"--backend memfd --attach direct":        0,
		"--backend memfd --attach bridge":        3,
		"--backend secret --memory 512G":         3,
		"--backend hugetlb":                      3,
		"--backend guest-memfd":                  3,
		"--backend reserved":                     3,
		"--backend glue":                         2,
		"--attach glue":                          2,
		"--backend secret --attach window extra": 2,
	}
	sys, err := kvm.Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer sys.Close()
	if flags, err := sys.GuestMemfdFlags(); err != nil || flags != 0 {
		codes["--backend guest-memfd"] = 0
	}
	if words, err := os.ReadFile("/proc/cmdline"); err != nil || strings.Contains(string(words), "memmap=") {
		codes["--backend reserved"] = 0
	}
	for args, want := range codes {
		r := offmapRun(t, append([]string{"doctor", "-m", "32"}, strings.Fields(args)...)...)
		if r.code != want || (r.stdout == "") != (want == 2) {
			t.Errorf("doctor %s: exit code %d, want %d\n%s%s", args, r.code, want, r.stdout, r.stderr)
		}
	}
	t.Run("hugetlb, with pages", func(t *testing.T) {
		setting(t, "/proc/sys/vm/nr_hugepages", "16")
		if r := offmapRun(t, "doctor", "--backend", "hugetlb", "-m", "32"); r.code != 0 {
			t.Errorf("16 pages for 32 MiB: exit code %d\n%s", r.code, r.stdout)
		}
		if r := offmapRun(t, "doctor", "--backend", "hugetlb", "-m", "34"); r.code != 3 || !strings.Contains(r.stdout, "fix: sudo sysctl vm.nr_hugepages=17\n") {
			t.Errorf("16 pages for 34 MiB: exit code %d\n%s", r.code, r.stdout)
		}
	})
}

// TestDoctorSettings sets the kernel so that there is no window: doctor says
// by which command there is one again, and the command does it.
func TestDoctorSettings(t *testing.T) {
	needInside(t)
	for _, c := range []struct{ path, value, check, fix string }{
		{"/sys/kernel/mm/transparent_hugepage/shmem_enabled", "force", "thp-shmem", "echo never | sudo tee /sys/kernel/mm/transparent_hugepage/shmem_enabled"},
		{"/proc/sys/vm/memfd_noexec", "2", "memfd-exec", "sudo sysctl vm.memfd_noexec=1"},
	} {
		t.Run(c.check, func(t *testing.T) {
			setting(t, c.path, c.value)
			r := offmapRun(t, "doctor", "--json", "--attach", "window")
			d := readDoctor(t, r.stdout)
			if status, says := d.check(t, c.check); r.code != 3 || status != "warn" || !strings.HasSuffix(says, "\n"+c.fix) {
				t.Errorf("exit code %d, %s, %q", r.code, status, says)
			}
			if b := d.trial(t, "secret+window"); b.Works || b.Needs == "" {
				t.Errorf("%+v", b)
			}
			if !d.Attach["bridge"].Works {
				t.Error("the bridge doesn't work either")
			}
		})
	}
}

// TestDoctorUser has a user look who has only some rights.
func TestDoctorUser(t *testing.T) {
	needInside(t)
	for _, c := range []struct {
		name           string
		devices        []string
		limit          uint64
		check, says    string
		bridge, window string // what they need
	}{
		{"nothing", nil, enough, "kvm", `sudo chown "$USER" /dev/kvm`, "KVM", "KVM"},
		{"KVM", []string{"/dev/kvm"}, enough, "module", "chgrp kvm /dev/offmap", "rights to /dev/offmap", "vm.unprivileged_userfaultfd=1"},
		{"no locked memory", []string{"/dev/kvm", "/dev/offmap"}, 8 << 20, "memlock", "sudo prlimit --pid $$ --memlock=", "a higher RLIMIT_MEMLOCK", "a higher RLIMIT_MEMLOCK"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, stdout, stderr := output(t, asUserWith(t, c.limit, c.devices, "doctor", "--json", "-m", "64"))
			if code != 3 || stderr != "" {
				t.Errorf("exit code %d\n%s", code, stderr)
			}
			d := readDoctor(t, stdout)
			if status, says := d.check(t, c.check); status == "ok" || !strings.Contains(says, c.says) {
				t.Errorf("%s: %s, %q", c.check, status, says)
			}
			bridge, window := d.trial(t, "secret+bridge"), d.trial(t, "secret+window")
			if !strings.Contains(bridge.Needs, c.bridge) || !strings.Contains(window.Needs, c.window) {
				t.Errorf("%+v\n%+v", bridge, window)
			}
		})
	}
}

// TestDoctorBudget has one guest of a user's use up some of what all of them
// share, which nothing in /proc shows.
func TestDoctorBudget(t *testing.T) {
	needInside(t)
	onlyOn(t, "6.1")
	const limit = 160 << 20
	used := func() (mib int, status probe.Status, says string) {
		_, stdout, _ := output(t, asUser(t, limit, "doctor", "--json", "-m", "128"))
		status, says = readDoctor(t, stdout).check(t, "memlock")
		_, rest, _ := strings.Cut(says, "processes of user 1000 have used ")
		if _, err := fmt.Sscanf(rest, "%d MiB", &mib); err != nil {
			t.Fatalf("%v in %q", err, says)
		}
		return mib, status, says
	}
	if mib, status, says := used(); mib != 0 || status != "ok" {
		t.Errorf("alone: %s, %q", status, says)
	}
	args, _ := planter(t, 8192, true) // 32 MiB, and a few pages for itself
	g := start(t, asUser(t, limit, append([]string{"run", "--backend", "secret", "--attach", "bridge"}, readable(t, args)...)...))
	g.await(t, plantedLine)
	if mib, status, says := used(); mib < 32 || mib > 40 || status != "fail" || !strings.Contains(says, "128 MiB are wanted") {
		t.Errorf("beside a guest that uses 32 MiB: %s, %q", status, says)
	}
}

// TestLabDoctor has doctor look at kernels that lack something, and at one that
// was booted with more.
func TestLabDoctor(t *testing.T) {
	offmap := needLab(t)
	for _, c := range []struct {
		name     string
		lab      []string
		code     int
		works    []string // pairs
		refused  string   // of the pairs with secret memory, the attach
		needs    string
		check    string
		statusIs probe.Status
	}{
		{"no module", []string{"--no-module"}, 3, []string{"secret+window"}, "bridge", "module offmap.ko", "module", "warn"},
		{"no secret memory", []string{"--append", "secretmem.enable=0"}, 3, []string{"memfd+direct"}, "bridge", "secretmem.enable=1", "memfd-secret", "fail"},
		{"more memory set aside", []string{"--append", "hugepages=16 memmap=32M$0x40000000 init_on_free=1"}, 0,
			[]string{"hugetlb+direct", "reserved+direct", "secret+bridge"}, "direct", "GUP", "init-on-free", "ok"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append([]string{"lab", "--kernel", "6.1"}, c.lab...)
			cmd := command(t, patience, offmap, append(args, "--", "doctor", "--json", "-m", "32", "--attach", "bridge")...)
			cmd.Dir = t.TempDir()
			cmd.Env = os.Environ()
			code, stdout, stderr := output(t, cmd)
			if code != c.code {
				t.Errorf("exit code %d, want %d\n%s", code, c.code, stderr)
			}
			d := readDoctor(t, stdout)
			for _, pair := range c.works {
				if b := d.trial(t, pair); !b.Works {
					t.Errorf("%+v", b)
				}
			}
			if b := d.trial(t, "secret+"+c.refused); b.Works || !strings.Contains(b.Needs, c.needs) {
				t.Errorf("%+v, want it to need %q", b, c.needs)
			}
			if status, says := d.check(t, c.check); status != c.statusIs {
				t.Errorf("%s: %s, %q", c.check, status, says)
			}
		})
	}
}
