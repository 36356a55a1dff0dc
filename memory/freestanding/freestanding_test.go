package freestanding

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The programs in the repository are what their sources assemble to.
func TestProgramsMatchSources(t *testing.T) {
	for _, tool := range []string{"as", "ld"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED: programs not compared with their sources: %v (install binutils)", err)
		}
	}
	sources, err := filepath.Glob("../*/*/*.S")
	if err != nil || len(sources) < 2 {
		t.Fatalf("sources: %q, %v", sources, err)
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
			t.Errorf("%s.bin is not what its source assembles to (%v, %v): run go generate ./memory/...", name, err1, err2)
		}
	}
}

// Nobody can change a program between its writing and its execution.
func TestProgramIsSealed(t *testing.T) {
	f, err := load("test", []byte("\x7fELF"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{0xcc}, 0); err == nil {
		t.Error("written to")
	}
	if err := f.Truncate(0); err == nil {
		t.Error("truncated")
	}
}
