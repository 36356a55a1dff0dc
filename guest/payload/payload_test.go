package payload

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"offmap/guest/protocol"
)

// Each image in the repository is what its source assembles to.
func TestImagesMatchSources(t *testing.T) {
	for _, tool := range []string{"as", "ld"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED: images not compared with their sources: %v (install binutils)", err)
		}
	}
	dir := t.TempDir()
	if out, err := exec.Command("sh", "asm/build.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("asm/build.sh: %v\n%s", err, out)
	}
	built, err := filepath.Glob(filepath.Join(dir, "*.bin"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range built {
		name := strings.TrimSuffix(filepath.Base(file), ".bin")
		names = append(names, name)
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		p, err := Lookup(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if !bytes.Equal(p.Image(), want) {
			t.Errorf("asm/%s.bin is not what its source assembles to: run go generate ./guest/payload", name)
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, Names()) {
		t.Errorf("sources %q, table %q", names, Names())
	}
}

func TestLookup(t *testing.T) {
	if !slices.IsSorted(Names()) {
		t.Errorf("not in alphabetical order: %q", Names())
	}
	for _, n := range Names() {
		p, err := Lookup(n)
		if err != nil || p.Name != n || p.About == "" || len(p.Image()) == 0 {
			t.Errorf("Lookup(%q) = %+v, %v", n, p, err)
		}
	}
	_, err := Lookup("nosuch")
	if err == nil || !strings.Contains(err.Error(), strings.Join(Names(), ", ")) {
		t.Errorf("Lookup of an unknown name doesn't list the known ones: %v", err)
	}
}

// The constants are the same in the assembly and in Go.
func TestConstantsMatchAssembly(t *testing.T) {
	src, err := os.ReadFile("asm/common.inc")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int64{
		"EVENT": protocol.EventPort, "EXIT": protocol.ExitPort, "HALT": protocol.HaltPort,
		"INFO_RAM": protocol.InfoRAM, "INFO_CPUS": protocol.InfoCPUs, "INFO_RANGES": protocol.InfoRanges,
		"INFO_ARGS": protocol.InfoArgs, "INFO_TSC": protocol.InfoTSC, "INFO_TABLE": protocol.InfoTable,
	} {
		m := regexp.MustCompile(fmt.Sprintf(`\.set %s,\s*(\w+)`, name)).FindSubmatch(src)
		if m == nil {
			t.Errorf("%s is not set in asm/common.inc", name)
			continue
		}
		if got, err := strconv.ParseInt(string(m[1]), 0, 64); err != nil || got != want {
			t.Errorf("%s = %s in asm/common.inc, %#x here", name, m[1], want)
		}
	}
}
