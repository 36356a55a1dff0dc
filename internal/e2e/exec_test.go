package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"offmap/internal/measure/guestrun"
	"offmap/internal/process/exitcode"
)

// seenEnv makes this program print what it sees, as JSON, in place of its tests: the
// command of exec. Its value is a directory that it may write to.
const seenEnv = "OFFMAP_TEST_SEEN"

// seen is what a program sees of its surroundings.
type seen struct {
	Dir, Host, Env string
	UID, GID       int
	Groups         []int
	Umask          int
	Args           []string
	Stdin          string // SHA-256
	Shared         string // of the file "shared" in the working directory
	Release        string
}

// lookAround returns what this process sees.
func lookAround() (s seen, err error) {
	if s.Dir, err = os.Getwd(); err != nil {
		return s, err
	}
	if s.Host, err = os.Hostname(); err != nil {
		return s, err
	}
	s.Env, s.Args = os.Getenv("A"), os.Args[1:]
	s.UID, s.GID = os.Getuid(), os.Getgid()
	if s.Groups, err = os.Getgroups(); err != nil {
		return s, err
	}
	s.Umask = unix.Umask(0)
	unix.Umask(s.Umask)
	h := sha256.New()
	if _, err := io.Copy(h, os.Stdin); err != nil {
		return s, err
	}
	s.Stdin = hex.EncodeToString(h.Sum(nil))
	text, err := os.ReadFile("shared")
	s.Shared = string(text)
	return s, err
}

// tell is the command: it prints what it sees, leaves files and a process behind, and
// ends with exit code 41.
func tell() int {
	s, err := lookAround()
	if err == nil {
		var name unix.Utsname
		err = unix.Uname(&name)
		s.Release = unix.ByteSliceToString(name.Release[:])
	}
	if err == nil {
		err = os.WriteFile("dropped", nil, 0o666)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(os.Getenv(seenEnv), "kept"), []byte("by the guest"), 0o666)
	}
	if err == nil {
		err = exec.Command("sleep", "1000").Start()
	}
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	json.NewEncoder(os.Stdout).Encode(s)
	os.Stderr.WriteString("to stderr\n")
	return 41
}

// TestExec runs this program in a guest, and compares what it sees with what it sees
// here.
func TestExec(t *testing.T) {
	needInside(t)
	for _, p := range placings(t) {
		t.Run(p.String(), func(t *testing.T) {
			dir := t.TempDir()
			path := func(name string) string { return filepath.Join(dir, name) }
			if err := os.Mkdir(path("writable"), 0o755); err != nil {
				t.Fatal(err)
			}
			random(t, path("input"), 300<<10)
			if err := os.WriteFile(path("shared"), []byte("by the host"), 0o644); err != nil {
				t.Fatal(err)
			}
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			offmap, err := filepath.Abs("offmap")
			if err != nil {
				t.Fatal(err)
			}
			arguments := []string{"an argument", "", "-k", "--"}
			args := append([]string{"exec", "-k", guestKernel, "--rw", "writable", "--report", "report.json", "--dmesg", "dmesg"}, p.args()...)
			cmd := command(t, patience, offmap, append(append(args, "--", self), arguments...)...)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), seenEnv+"="+path("writable"), "A=b c")
			input, err := os.Open(path("input"))
			if err != nil {
				t.Fatal(err)
			}
			defer input.Close()
			var stdout, stderr bytes.Buffer
			cmd.Stdin, cmd.Stdout, cmd.Stderr = input, &stdout, &stderr
			err = cmd.Run()
			if cmd.ProcessState.ExitCode() != 41 || stderr.String() != "to stderr\n" {
				t.Fatalf("%v, want exit code 41\n%s\n%s", err, &stdout, &stderr)
			}

			var got seen
			if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
				t.Fatalf("%v\n%s", err, &stdout)
			}
			if !strings.HasPrefix(got.Release, "6.1.0-") {
				t.Errorf("the command ran on kernel %s", got.Release)
			}
			want := seenHere(t, dir, arguments)
			got.Release = ""
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the command sees (-here +guest):\n%s", diff)
			}
			sameFile(t, path("writable/kept"), []byte("by the guest"))
			if exists(path("dropped")) {
				t.Error("a file that the guest made outside of --rw is here")
			}
			if log, err := os.ReadFile(path("dmesg")); err != nil || !strings.Contains(string(log), "Linux version 6.1.0-") {
				t.Errorf("--dmesg: %v, %d bytes without the kernel's version", err, len(log))
			}
			text, err := os.ReadFile(path("report.json"))
			if err != nil {
				t.Fatal(err)
			}
			if d := readRun(t, string(text)); d.Exit != (guestrun.Exit{Reason: "poweroff", Code: 41}) || d.Attach != "bridge" && d.Attach != "window" {
				t.Errorf("report: %+v", d)
			}
		})
	}
}

// seenHere returns what this process would see in dir with these arguments and the
// input there.
func seenHere(t *testing.T, dir string, args []string) seen {
	t.Helper()
	input, err := os.ReadFile(filepath.Join(dir, "input"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(input)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	umask := unix.Umask(0)
	unix.Umask(umask)
	return seen{
		Dir: dir, Host: host, Env: "b c", UID: os.Getuid(), GID: os.Getgid(), Groups: groups, Umask: umask, Args: args,
		Stdin: hex.EncodeToString(sum[:]), Shared: "by the host",
	}
}

// TestExecEnds ends commands, their kernel and offmap in other ways.
func TestExecEnds(t *testing.T) {
	needInside(t)
	oneIsEnough(t, "6.1")
	p := placings(t)[0]
	run := func(args ...string) *guest {
		return start(t, command(t, patience, "./offmap", append(append([]string{"exec", "-k", guestKernel}, p.args()...), args...)...))
	}
	t.Run("signal", func(t *testing.T) {
		g := run("--", "sh", "-c", "echo up; sleep 1000")
		g.await(t, "up\n")
		g.Process.Signal(syscall.SIGTERM)
		if code := g.ended(); code != 128+15 || g.out.String() != "up\n" {
			t.Errorf("exit code %d, want %d\n%s", code, 128+15, g.out.String())
		}
	})
	t.Run("panic", func(t *testing.T) {
		g := run("--", "sh", "-c", "echo c > /proc/sysrq-trigger; sleep 1000")
		if code := g.ended(); code != 34 || !strings.Contains(g.out.String(), "sysrq triggered crash") || !strings.Contains(g.out.String(), "Call Trace") {
			t.Errorf("exit code %d, want 34 and the kernel's log\n%s", code, g.out.String())
		}
	})
	t.Run("timeout", func(t *testing.T) {
		g := run("--timeout", "5s", "--", "sh", "-c", "sleep 1000")
		if code := g.ended(); code != 124 {
			t.Errorf("exit code %d, want 124\n%s", code, g.out.String())
		}
	})
}

// TestExecUser runs a command in a secret guest as a user without any privilege, behind
// the window.
func TestExecUser(t *testing.T) {
	needInside(t)
	onlyOn(t, "6.12")
	const ids = `set -e
grep '^Uid:' /proc/self/status
echo new > /tmp/of-user
cat /tmp/of-user
if echo x > /etc-of-root; then exit 1; fi`
	code, stdout, stderr := output(t, asUserWith(t, enough, []string{"/dev/kvm", "/dev/userfaultfd"},
		"exec", "-k", guestKernel, "-m", "192", "--", "sh", "-c", ids))
	if code != 0 || stdout != "Uid:\t1000\t1000\t1000\t1000\nnew\n" {
		t.Errorf("exit code %d\n%s\n%s", code, stdout, stderr)
	}
	if exists("/tmp/of-user") {
		t.Error("the guest's file is here")
	}
}

// TestExecSoak runs commands in a row, several at a time, which end in all ways at random
// moments.
func TestExecSoak(t *testing.T) {
	needInside(t)
	if *soak == 0 {
		t.Skip("SKIPPED: wants -soak=NUMBER")
	}
	const atATime = 4
	random := rand.New(rand.NewPCG(uint64(*soak), uint64(time.Now().UnixNano())))
	// Signals and timeouts come at any time of a guest's life, its boot above all.
	first := offmapRun(t, "exec", "-m", "192M", "-k", *soakKernel, "--", "sh", "-c", "true")
	if first.code != 0 {
		t.Fatalf("the first command: exit code %d\n%s", first.code, first.stderr)
	}
	latest := (atATime * first.took).Milliseconds()
	ended := map[string]int{}
	var done atomic.Int32
	var running errgroup.Group
	running.SetLimit(atATime)
	for i := range *soak {
		placing := []placing{{"bridge", "1"}, {"window", "1"}, {"bridge", "2"}, {"window", "2"}}[random.IntN(4)]
		code, sig, after := random.IntN(120), endSignals[random.IntN(len(endSignals))], time.Duration(1+random.Int64N(latest))*time.Millisecond
		way := random.IntN(4)
		ended[[...]string{"by themselves", "by a signal of their own", "by --timeout", "by a signal to offmap"}[way]]++
		running.Go(func() error {
			args := append([]string{"exec", "-m", "192M", "-k", *soakKernel}, placing.args()...)
			var want int
			script := "sleep 1000"
			switch way {
			case 0:
				script, want = fmt.Sprintf("echo out; exit %d", code), code
			case 1:
				script, want = fmt.Sprintf("kill -%d $$; sleep 1000", sig), 128+int(sig)
			case 2:
				args, want = append(args, "--timeout", after.String()), exitcode.Timeout
			case 3:
				want = 128 + int(sig)
			}
			cmd := command(t, 2*patience, "./offmap", append(args, "--", "sh", "-c", script)...)
			var out syncBuffer
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				return err
			}
			if way == 3 {
				time.Sleep(after)
				cmd.Process.Signal(sig)
			}
			cmd.Wait()
			got := cmd.ProcessState.ExitCode()
			// A signal may come before offmap has a handler for it. To a shell it is the same.
			if s := cmd.ProcessState.Sys().(syscall.WaitStatus); way == 3 && s.Signaled() {
				got = 128 + int(s.Signal())
			}
			if got != want {
				t.Errorf("command %d, %s, %q after %v: %v, want exit code %d\n%s", i, placing, script, after, cmd.ProcessState, want, out.String())
			}
			if n := done.Add(1); n%10 == 0 {
				t.Logf("%d done", n)
			}
			return nil
		})
	}
	if err := running.Wait(); err != nil {
		t.Error(err)
	}
	t.Logf("%d commands, which ended %v; signals and timeouts within %v", *soak, ended, time.Duration(latest)*time.Millisecond)
}

// endSignals are signals that end a shell.
var endSignals = []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}
