package pdeathsig

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary is started again as a parent, which starts a child, and as
// that child, which holds its stdout open until its stdin ends.
const roleVariable = "OFFMAP_TEST_PDEATHSIG"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "parent":
		cmd := role("child")
		cmd.Stdin, cmd.Stdout = os.Stdin, os.Stdout
		if err := Start(cmd); err != nil {
			panic(err)
		}
		cmd.Wait()
	case "child":
		fmt.Println("here")
		io.Copy(io.Discard, os.Stdin)
	default:
		os.Exit(m.Run())
	}
}

func role(name string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+name, "GORACE=atexit_sleep_ms=0") // else a second
	return cmd
}

// onThreadThatEnds calls f on a thread, takes all the other idle ones that Go
// has as well, and returns when every one of them has ended but the process's
// first, which never does.
func onThreadThatEnds(t *testing.T, f func()) {
	t.Helper()
	const many = 32
	var ending []int
	taken, release := make(chan int), make(chan struct{})
	for range many {
		go func() {
			runtime.LockOSThread() // never unlocked
			tid := unix.Gettid()
			if tid != unix.Getpid() && f != nil {
				f()
				f = nil
			}
			taken <- tid
			<-release
		}()
		if tid := <-taken; tid != unix.Getpid() {
			ending = append(ending, tid)
		}
	}
	close(release)
	deadline := time.Now().Add(time.Minute)
	for _, tid := range ending {
		for task := fmt.Sprintf("/proc/self/task/%d", tid); ; time.Sleep(time.Millisecond) {
			if _, err := os.Stat(task); err != nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s is still there", task)
			}
		}
	}
}

// TestThreadEnds starts children on a thread that ends, as do all others that
// are idle. The control, without the package, dies of it.
func TestThreadEnds(t *testing.T) {
	for _, tt := range []struct {
		name  string
		start func(*exec.Cmd) error
		want  syscall.Signal // that ends it before it is told to; 0: none
	}{
		{"pdeathsig", Start, 0},
		{"control", func(cmd *exec.Cmd) error {
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			return cmd.Start()
		}, syscall.SIGKILL},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := role("child")
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			onThreadThatEnds(t, func() { err = tt.start(cmd) })
			if err != nil {
				t.Fatal(err)
			}
			if tt.want == 0 {
				in.Close()
			}
			cmd.Wait()
			in.Close()
			status := cmd.ProcessState.Sys().(syscall.WaitStatus)
			if got := max(status.Signal(), 0); got != tt.want {
				t.Errorf("the child ended with signal %d, want %d", got, tt.want)
			}
		})
	}
}

// TestTracedChild stops children for a moment by ptrace, which the threads that
// wait for their ends must not take for that.
func TestTracedChild(t *testing.T) {
	for range 60 { // a thread of theirs is seldom among those that end
		cmd := role("child")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := Start(cmd); err != nil {
			t.Fatal(err)
		}
		traced := make(chan error)
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			pid := cmd.Process.Pid
			err := errors.Join(unix.PtraceSeize(pid), unix.PtraceInterrupt(pid))
			if err == nil {
				time.Sleep(20 * time.Millisecond) // for others who wait to see it first
				_, err = unix.Wait4(pid, nil, unix.WALL, nil)
			}
			traced <- errors.Join(err, unix.PtraceDetach(pid))
		}()
		if err := <-traced; err != nil {
			t.Fatal(err)
		}
		onThreadThatEnds(t, nil)
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the child: %v", err)
		}
	}
}

// TestProcessEnds kills a parent. Its child, which nobody tells to end, goes
// with it.
func TestProcessEnds(t *testing.T) {
	in, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	defer in.Close()
	parent := role("parent")
	parent.Stdin = in
	pipe, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(pipe)
	if line, err := out.ReadString('\n'); line != "here\n" {
		t.Fatalf("the child said %q, %v", line, err)
	}
	parent.Process.Kill()
	ended := make(chan error, 1)
	go func() {
		_, err := out.ReadByte() // io.EOF when the child is gone too
		ended <- err
	}()
	select {
	case err := <-ended:
		if err != io.EOF {
			t.Errorf("the child's output: %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("the child has outlived its parent")
	}
	hold.Close() // ends it, should it be there still
	parent.Wait()
}
