package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"offmap/internal/measure/exposuremap"
	"offmap/internal/measure/probe"
	"offmap/memory"
	"offmap/memory/attach"
)

// startCanary runs a guest that fills its 32 MiB of RAM and then waits. It returns when
// the RAM is full.
func startCanary(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "console")
	console, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	cmd := &exec.Cmd{
		Path: self, Args: append([]string{"offmap", "run", "--payload", "canary", "-m", "32"}, args...),
		Dir: dir, Env: os.Environ(), Stdout: console, Stderr: console,
	}
	in, err := cmd.StdinPipe() // which nobody writes to
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		said, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(said, []byte("planted")) {
			return cmd
		}
		if time.Now().After(end) {
			t.Fatalf("the guest has not planted its canary:\n%s", said)
		}
	}
}

// TestExposure ends runs by a signal. Their records are complete, and what they say of
// the guest's pages is right for the backend and attach.
func TestExposure(t *testing.T) {
	needKVM(t)
	const ram, bound = 32 << 20, 4 << 20
	for _, p := range []attach.Pair{
		{Backend: memory.Anon, Attach: attach.Direct}, {Backend: memory.Memfd, Attach: attach.Direct},
		{Backend: memory.Secret, Attach: attach.ViaBridge}, {Backend: memory.Secret, Attach: attach.ViaWindow},
	} {
		t.Run(p.String(), func(t *testing.T) {
			if r := probe.Try(t.Context(), p, ""); !r.Works {
				t.Skipf("SKIPPED: %s", r.Reason)
			}
			dir := t.TempDir()
			args := []string{"--backend", string(p.Backend), "--attach", string(p.Attach), "--exposure", "trace.json"}
			if p.Attach == attach.ViaWindow {
				args = append(args, "--window", "4M")
			}
			cmd := startCanary(t, dir, args...)
			if _, err := os.Stat(filepath.Join(dir, "trace.json")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("there is a trace before the end: %v", err)
			}
			cmd.Process.Signal(syscall.SIGTERM)
			if cmd.Wait(); cmd.ProcessState.ExitCode() != 143 {
				t.Errorf("%v, want exit code 143", cmd.ProcessState)
			}
			f, err := os.Open(filepath.Join(dir, "trace.json"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			tr, err := exposuremap.Read(f)
			if err != nil {
				t.Fatal(err)
			}
			last := tr.Samples[len(tr.Samples)-1]
			if tr.Pair != p || tr.Memory != ram || len(tr.Samples) < 2 || last.Untouched > ram/8 {
				t.Errorf("%s, %d bytes, %d samples, the last %+v", tr.Pair, tr.Memory, len(tr.Samples), last)
			}
			for i, s := range tr.Samples {
				switch {
				case p.Backend.Exposed():
					if s.Hidden+s.InWindow > 0 {
						t.Errorf("sample %d: ordinary memory is hidden: %+v", i, s)
					}
				case p.Attach == attach.ViaBridge:
					if s.Exposed()+s.ExposedPeak > 0 {
						t.Errorf("sample %d: something is exposed: %+v", i, s)
					}
				case s.ExposedPeak > bound:
					t.Errorf("sample %d: more is exposed than the window holds: %+v", i, s)
				}
			}
			if p.Attach == attach.ViaWindow && (last.Faults == 0 || last.ExposedPeak < bound/2 || last.Hidden < ram/2) {
				t.Errorf("the window did nothing: %+v", last)
			}
		})
	}
}

// TestExposureKilled checks that a killed run leaves no part of a record.
func TestExposureKilled(t *testing.T) {
	needKVM(t)
	dir := t.TempDir()
	cmd := startCanary(t, dir, "--exposure", "trace.json")
	cmd.Process.Kill()
	cmd.Wait()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// TestTarget has a writer fail. The old file stays, and no other.
func TestTarget(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("before"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := checkTarget(path); err != nil {
		t.Error(err)
	}
	full := errors.New("disk full")
	for _, write := range []error{full, nil} {
		err := writeTarget(t.Context(), path, func(w io.Writer) error {
			w.Write([]byte("after"))
			return write
		})
		want := "after"
		if write != nil {
			want = "before"
		}
		got, rerr := os.ReadFile(path)
		if !errors.Is(err, write) || rerr != nil || string(got) != want {
			t.Errorf("%v: %q, %v; want %q", err, got, rerr, want)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
	for path, want := range map[string]string{dir: "is a directory", filepath.Join(dir, "no/file"): "no such file", filepath.Join(path, "x"): "not a directory"} {
		if err := checkTarget(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}
