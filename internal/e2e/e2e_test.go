// Package e2e tests the program as it is built, in the lab: stock kernels,
// real kvm_amd, the bridge module, and a Linux guest.
//
// Outside the lab, TestLab boots each kernel with this test binary as the
// program to run inside; there, with -inside, the rest of the tests run.
package e2e

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"offmap/internal/lab"
	"offmap/internal/lab/debian"
)

// everything matches the name of every test.
const everything = "."

var (
	inLab      = flag.Bool("lab", false, "boot the lab's kernels and test in them")
	inside     = flag.Bool("inside", false, "run the tests that are made for the inside of the lab")
	kernel     = flag.String("kernel", "all", "with -lab: the series to test in, or all")
	boots      = flag.Int("boots", 1, "how often each boot is made that is compared with others")
	cpus       = flag.Int("cpus", lab.DefaultCPUs, "processors of the lab machine")
	words      = flag.String("append", "", "words for the end of the lab kernels' command line")
	only       = flag.String("only", everything, "of the tests inside, run those that match")
	soak       = flag.Int("soak", 0, "how many boots in a row TestSoak makes")
	least      = flag.Duration("smallest-window", 0, "how long Linux may take behind each window that TestSmallestWindow tries")
	keep       = flag.String("results", "", "directory to keep what TestLinuxBoots and TestIOSpeed have measured in, as SERIES.json and SERIES-io.json")
	soakKernel = flag.String("soak-kernel", guestKernel, "what the guests of TestExecSoak boot, as for --kernel")
	kills      = flag.Int("kills", 2, "how many VMMs TestDiskKilled kills; TestKilled kills as many, and as many with their scrubber")
)

// program is bin/offmap, seen from this package's directory.
const program = "../../bin/offmap"

// guestKernel is what the guests boot: Debian's oldest, in every lab kernel.
const guestKernel = "debian:6.1"

// packages have tests that want a real KVM, a real memfd_secret or root. The oldest
// kernel makes all of them. Where others is given, it is what the other kernels make:
// the rest takes minutes, and is about the program more than about its host.
var packages = []struct{ path, others string }{
	{path: "kvm"}, {path: "memory"}, {path: "memory/uffd"},
	{path: "memory/attach"}, {path: "memory/attach/scrubber"}, {path: "memory/attach/window"},
	{path: "audit", others: none}, {path: "audit/canary", others: "TestScanKcore"}, {path: "audit/inject"},
	{path: "internal/process/undumpable", others: none},
	{path: "vmm", others: "TestHostile|TestHypercall|TestBackends|TestWindow$|TestTripleFault"}, {path: "vmm/gdb", others: none},
}

// none is a pattern that no test's name matches.
const none = "^$"

func TestLab(t *testing.T) {
	offmap := needLab(t)
	dir := t.TempDir()
	// The lab sees this directory and nothing else of the host's.
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	self := buildTest(t, "internal/e2e", dir)
	for _, p := range packages {
		buildTest(t, p.path, dir)
	}
	copyFile(t, offmap, filepath.Join(dir, "offmap"))
	buildMutants(t, dir)
	buildLibrary(t, dir)
	fetchMemtest(t, dir)
	fetchDebian(t, dir)
	makeImages(t, dir)
	buildHostile(t, dir)
	if *boots >= 5 {
		preparePeers(t, dir)
		prepareIOSpeed(t, dir)
		prepareExecSpeed(t, dir)
	}
	// The machines run beside each other, so what failed in one is lost among what
	// the others say. It is repeated at the end.
	var mu sync.Mutex
	var failed []string
	t.Cleanup(func() {
		for _, f := range failed {
			t.Log(f)
		}
	})
	coarse := coarseTimers
	if *boots > 1 || *soak > 0 {
		coarse = "" // what is measured, or runs for long, runs as on a user's host
	}
	for _, j := range labJobs() {
		t.Run(j.name, func(t *testing.T) {
			atOnce(t) // each machine has one processor to run on
			// Whatever hangs is told by the innermost, with its stacks.
			limit := timeLeft(t)
			args := append([]string{"lab"}, j.lab...)
			args = append(args,
				"--kernel", j.series, "--cpus", fmt.Sprint(*cpus), "--append", strings.Join([]string{reservedWord, loadedLow, coarse, *words}, " "), "--timeout", limit.String(), "-v",
				"--module", "zram", "--module", "lzo-rle", "--module", "vhost_vsock", "--module", "loop", "--program", self, "--",
				"-test.v", "-test.timeout="+(limit-time.Minute).String(), "-test.run="+j.run, "-test.skip="+j.skip, "-inside", fmt.Sprintf("-boots=%d", *boots), fmt.Sprintf("-soak=%d", *soak),
				fmt.Sprintf("-kills=%d", *kills), fmt.Sprintf("-smallest-window=%v", *least), "-soak-kernel", *soakKernel)
			bad, err := runMachine(j.name, dir, offmap, args...)
			for _, r := range []struct{ file, suffix string }{{bootResults, ""}, {ioResults, "-io"}} {
				if measured := filepath.Join(dir, r.file); *keep != "" && exists(measured) {
					copyFile(t, measured, filepath.Join(*keep, j.series+r.suffix+".json"))
					os.Remove(measured) // it isn't the next kernel's
				}
			}
			checkKilled(t, dir)
			if err != nil {
				mu.Lock()
				failed = append(failed, fmt.Sprintf("%s: %v\n%s", j.name, err, strings.Join(bad, "\n")))
				mu.Unlock()
				t.Fatalf("offmap %s: %v", strings.Join(args, " "), err)
			}
		})
	}
}

// runMachine runs offmap lab in dir, and prints what it says, each line behind the machine's
// name. bad are the lines that tell of failed tests.
func runMachine(name, dir, offmap string, args ...string) (bad []string, err error) {
	cmd := exec.Command(offmap, args...)
	cmd.Dir = dir
	out := &prefixed{prefix: name + ": "}
	cmd.Stdout, cmd.Stderr = out, out
	out.silent = time.AfterFunc(silence, func() { cmd.Process.Signal(syscall.SIGQUIT) })
	err = cmd.Run()
	out.flush()
	out.silent.Stop()
	return out.bad, err
}

// needLab skips what boots machines unless it may, has the rest run beside each
// other, and returns the program.
func needLab(t *testing.T) (offmap string) {
	t.Helper()
	if !*inLab {
		t.Skip("SKIPPED: the lab boots only with -lab (scripts/test does)")
	}
	atOnce(t)
	offmap, err := filepath.Abs(program)
	if err != nil {
		t.Fatal(err)
	}
	return offmap
}

// loadedLow has the kernels at their lowest address. KASLR may put one so high that no
// memory can be removed: see docs/removed.md.
const loadedLow = "nokaslr"

// coarseTimers has the kernels use their tick only. Otherwise they program the APIC's
// timer for each wait, and its registers are slow in the emulator. With it, a guest's boot
// takes 10 to 25 % less time.
const coarseTimers = "highres=off"

// labJob is what one machine of TestLab's is booted for.
type labJob struct {
	name, series string
	lab          []string // further flags of the machine
	run, skip    string   // tests
}

// withSwap gives a machine a swap disk.
var withSwap = []string{"--swap", "256"}

// auditMemory is less RAM, which is searched sooner. In the middle kernel, audits need the
// range of reservedWord, behind which the firmware has some memory for itself.
func auditMemory(series string) []string {
	if series == middle {
		return []string{"--memory", "1664M"}
	}
	return []string{"--memory", "1G"}
}

// labJobs gives all of a kernel's tests several machines, so that they are done
// sooner. Audits have one with swap, which other tests do without. The machines that take
// longest come first: one that is alone at the end leaves processors idle.
func labJobs() (jobs []labJob) {
	const audits, packages = "^TestAudit", "^TestPackages$"
	kinds := []labJob{
		{run: everything, skip: audits + "|" + packages},
		{name: "-audit", run: audits},
		{name: "-packages", run: packages},
	}
	if *only != everything {
		kinds = []labJob{{run: *only}}
	}
	for _, job := range kinds {
		suffix := job.name
		for _, s := range series() {
			job.name, job.series, job.lab = s+suffix, s, nil
			switch {
			case job.run == audits:
				job.lab = slices.Concat(withSwap, auditMemory(s))
			case strings.Contains(*only, "Audit"):
				job.lab = withSwap
			}
			jobs = append(jobs, job)
		}
	}
	return jobs
}

// atOnce lets a test run beside others, as many as there are processors, unless
// boots are timed.
func atOnce(t *testing.T) {
	if *boots == 1 {
		t.Parallel()
	}
}

// buildTest builds a package's tests into dir as one program without libraries,
// which this one may not be: the lab has none.
func buildTest(t *testing.T, pkg, dir string) string {
	t.Helper()
	path := filepath.Join(dir, filepath.Base(pkg)+".test")
	build := exec.Command("go", "test", "-c", "-o", path, "offmap/"+pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go test -c %s: %v\n%s", pkg, err, out)
	}
	return path
}

// silence is how long the tests in a machine may say nothing: longer than any
// command there may take, since that one is to say what hangs. Then SIGQUIT,
// which the lab passes on, makes the tests say where they are.
const silence = 2*patience + 5*time.Minute

// timeLeft is how long a machine that is booted now may take: until shortly before
// the deadline, so that what hangs in it can still be told. Shares of the time
// would end a machine on a slow computer that has time left; one that hangs has
// the others wait for a processor, and there is more than one.
func timeLeft(t *testing.T) time.Duration {
	end, ok := t.Deadline()
	if !ok {
		return 24 * time.Hour
	}
	limit := (time.Until(end) - 3*time.Minute).Round(time.Second)
	if limit < 2*time.Minute {
		t.Fatalf("no time left to boot a machine: the others took it all, until %v before the deadline", time.Until(end).Round(time.Second))
	}
	return limit
}

// series lists the kernels to test in.
func series() []string {
	if *kernel != "all" {
		return strings.Split(*kernel, ",")
	}
	return debian.KnownSeries()
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatalf("%v: build it first with `make`", err)
	}
	if err := os.WriteFile(to, b, 0o755); err != nil {
		t.Fatal(err)
	}
}

// needInside skips what only makes sense inside the lab.
func needInside(t *testing.T) {
	t.Helper()
	if !*inside {
		t.Skip("SKIPPED: runs inside the lab (TestLab)")
	}
}

// What is made on one kernel, or is left out on one, is on these.
const (
	oldest = "6.1"
	middle = "6.12"
)

// onlyOn skips what one of the lab's kernels is enough for.
func onlyOn(t *testing.T, series string) {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil || !strings.HasPrefix(unix.ByteSliceToString(u.Release[:]), series+".") {
		t.Skipf("skipped: one kernel is enough, %s (%v)", series, err)
	}
}

// TestPackages runs the other packages' tests on the lab's kernel.
func TestPackages(t *testing.T) {
	needInside(t)
	for _, p := range packages {
		t.Run(p.path, func(t *testing.T) {
			if p.path == "audit" && *soak == 0 {
				t.Skip("skipped: it takes minutes, and TestAudit makes the same attacks") // and it runs on this machine's KVM
			}
			args := []string{"-test.v", "-test.short", "-test.timeout=" + (2*patience - time.Minute).String()}
			if p.others != "" && !kernelIs(t, oldest) && *soak == 0 {
				args = append(args, "-test.run="+p.others)
			}
			out, err := command(t, 2*patience, "./"+path.Base(p.path)+".test", args...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for line := range bytes.Lines(out) {
				if bytes.Contains(line, []byte("SKIPPED")) {
					t.Logf("%s", bytes.TrimSpace(line))
				}
			}
		})
	}
}

// result is how a run of the program ended.
type result struct {
	code           int
	stdout, stderr string
	took           time.Duration
}

// offmapRun runs the program.
func offmapRun(t *testing.T, args ...string) result {
	t.Helper()
	return offmapRunFor(t, patience, args...)
}

// offmapRunFor runs the program, which has that long.
func offmapRunFor(t *testing.T, timeout time.Duration, args ...string) result {
	t.Helper()
	cmd := command(t, timeout, "./offmap", args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	start := time.Now()
	err := cmd.Run()
	took := time.Since(start)
	if cmd.ProcessState == nil || took > timeout {
		t.Fatalf("offmap %s: %v after %v\n%s\n%s", strings.Join(args, " "), err, took, stdout.String(), stderr.String())
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String(), took}
}
