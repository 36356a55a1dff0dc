package freestanding

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/internal/process/undumpable"
)

// Each .bin in the repository is what its source assembles to.
func TestProgramsMatchSources(t *testing.T) {
	for _, tool := range []string{"as", "ld"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED: programs not compared with their sources: %v (install binutils)", err)
		}
	}
	var sources []string
	for _, where := range []string{"../../../internal/process/*/*.S", "../../../memory/*/*/*.S", "../../../audit/*/*.S"} {
		found, err := filepath.Glob(where)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %q, %v", where, found, err)
		}
		sources = append(sources, found...)
	}
	for _, source := range sources {
		dir, name := t.TempDir(), strings.TrimSuffix(source, ".S")
		if out, err := exec.Command("sh", "build.sh", source, dir).CombinedOutput(); err != nil {
			t.Errorf("build.sh %s: %v\n%s", source, err, out)
			continue
		}
		want, err1 := os.ReadFile(filepath.Join(dir, filepath.Base(name)+".bin"))
		have, err2 := os.ReadFile(name + ".bin")
		if err1 != nil || err2 != nil || !bytes.Equal(have, want) {
			t.Errorf("%s.bin is not what its source assembles to (%v, %v): run make generate", name, err1, err2)
		}
	}
}

const child = "freestanding-test-child" // the name under which TestStart starts this program

func TestMain(m *testing.M) {
	if os.Args[0] == child {
		os.Exit(7)
	}
	os.Exit(m.Run())
}

// The program starts whatever the numbers of its descriptor and of the files'.
func TestStart(t *testing.T) {
	image, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program, err := undumpable.Program(child, bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	at := func(f *os.File, fd int) *os.File {
		t.Helper()
		got, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, fd)
		if err != nil || got != fd {
			t.Fatalf("descriptor %d, want %d: %v", got, fd, err)
		}
		return os.NewFile(uintptr(got), f.Name())
	}
	const highest = 200
	file := at(os.Stderr, highest)
	defer file.Close()
	for fd := highest - 3; fd < highest+8; fd++ {
		if fd == highest {
			continue
		}
		moved := at(program, fd)
		process, err := start(child, moved, []*os.File{file, file, file}, nil)
		moved.Close()
		if err != nil {
			t.Errorf("program at %d, files at %d: %v", fd, highest, err)
			continue
		}
		if state, err := process.Wait(); err != nil || state.ExitCode() != 7 {
			t.Errorf("program at %d, files at %d: %v, %v", fd, highest, state, err)
		}
	}
}
