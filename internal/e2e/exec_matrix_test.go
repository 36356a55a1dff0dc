package e2e

import (
	"debug/elf"
	"encoding/xml"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"

	"offmap/internal/measure/matrix"
)

// cellEnv makes this program a command of several guests, in place of its tests. Its value
// is a directory that all of them may write to, or awaitSignal.
const (
	cellEnv     = "OFFMAP_TEST_CELL"
	awaitSignal = "signal"
)

// inCell is the command. In the first guest it succeeds, in the next one it crashes. Or it
// ends with exit code 7 after SIGINT.
func inCell(dir string) int {
	if dir == awaitSignal {
		interrupt := make(chan os.Signal, 1)
		signal.Notify(interrupt, os.Interrupt)
		fmt.Println("waiting")
		<-interrupt
		return 7
	}
	f, err := os.OpenFile(filepath.Join(dir, "first"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err == nil {
		f.Close()
		fmt.Print("the first\nwithout an end")
		return 0
	}
	fmt.Printf("not the first: %v \x1b[31m\n", err)
	debug.SetTraceback("crash")
	panic("crashes")
}

// TestExecMatrix runs a command in two guests, of which one fails.
func TestExecMatrix(t *testing.T) {
	needInside(t)
	onlyOn(t, middle)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("results", func(t *testing.T) {
		dir := t.TempDir()
		path := func(name string) string { return filepath.Join(dir, name) }
		if err := os.Mkdir(path("writable"), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv(cellEnv, path("writable"))
		cmd := command(t, patience, "./offmap", "exec", "-k", guestKernel, "--backend", "anon", "--backend", "secret", "-j", "1",
			"--rw", path("writable"), "--artifacts", path("left"), "--junit", path("junit.xml"), "--json", "--", self)
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); cmd.ProcessState.ExitCode() != 3 {
			t.Fatalf("%v, want exit code 3\n%s", err, &stderr)
		}
		doc, err := matrix.Read(strings.NewReader(stdout.String()))
		if err != nil || len(doc.Cells) != 2 {
			t.Fatalf("%v\n%s", err, &stdout)
		}
		for i, want := range []struct {
			name string
			matrix.Result
			code int
		}{{"anon", matrix.OK, 0}, {"secret", matrix.Signal, 128 + int(syscall.SIGABRT)}} {
			c := doc.Cells[i]
			if c.Name != want.name || c.Result != want.Result || c.Code != want.code || c.Run == nil || string(c.Run.Backend) != want.name {
				t.Errorf("%+v, want %+v", c, want)
			}
		}
		for _, line := range []string{"anon | the first\nanon | without an end\n", "secret | panic: crashes", "\nsecret  ", "SIGABRT\n"} {
			if !strings.Contains(stderr.String(), line) {
				t.Errorf("no %q:\n%s", line, &stderr)
			}
		}

		text, err := os.ReadFile(path("junit.xml"))
		if err != nil {
			t.Fatal(err)
		}
		var junit struct {
			Suite struct {
				Cases []struct {
					Failure *struct {
						Message string `xml:"message,attr"`
					} `xml:"failure"`
					Out string `xml:"system-out"`
				} `xml:"testcase"`
			} `xml:"testsuite"`
		}
		if err := xml.Unmarshal(text, &junit); err != nil || len(junit.Suite.Cases) != 2 {
			t.Fatalf("%v\n%s", err, text)
		}
		first, second := junit.Suite.Cases[0], junit.Suite.Cases[1]
		if first.Failure != nil || first.Out != "the first\nwithout an end" || second.Failure == nil || !strings.Contains(second.Out, `\x1b[31m`) {
			t.Errorf("JUnit:\n%s", text)
		}

		if exists(path("left/anon/dmesg.txt")) {
			t.Error("a kernel's log, and the command didn't fail")
		}
		log, err := os.ReadFile(path("left/secret/dmesg.txt"))
		if err != nil || !strings.Contains(string(log), "Linux version 6.1.0-") {
			t.Errorf("the kernel's log: %v, %d bytes", err, len(log))
		}
		cores, err := filepath.Glob(path("left/*/guest/core.*"))
		if err != nil || len(cores) != 1 {
			t.Fatalf("core dumps: %q, %v", cores, err)
		}
		core, err := elf.Open(cores[0])
		if err != nil {
			t.Fatal(err)
		}
		defer core.Close()
		if core.Type != elf.ET_CORE || !strings.Contains(cores[0], "secret/guest/core."+filepath.Base(self)[:4]) {
			t.Errorf("%s is %v", cores[0], core.Type)
		}
		if t.Failed() {
			t.Logf("%s", &stderr)
		}
	})
	t.Run("signal", func(t *testing.T) {
		t.Setenv(cellEnv, awaitSignal)
		g := start(t, command(t, 2*patience, "./offmap", "exec", "-k", guestKernel, "--backend", "secret", "--backend", "anon", "-j", "1", "--", self))
		g.await(t, "secret | waiting\n")
		if err := g.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if code := g.ended(); code != 128+int(syscall.SIGINT) {
			t.Errorf("exit code %d", code)
		}
		for _, line := range []string{"exit code 7\n", "not run\n", "offmap: stopped by signal: interrupt\n"} {
			if !strings.Contains(g.out.String(), line) {
				t.Errorf("no %q:\n%s", line, g.out.String())
			}
		}
	})
}
