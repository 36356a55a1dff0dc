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
)

// The images in the repository are what their sources assemble to.
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

// The assembly's constants are Go's.
func TestConstantsMatchAssembly(t *testing.T) {
	src, err := os.ReadFile("asm/common.inc")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int64{
		"CONSOLE": ConsolePort, "EVENT": EventPort, "EXIT": ExitPort, "HALT": HaltPort,
		"INFO_RAM": infoRAM, "INFO_CPUS": infoCPUs, "INFO_RANGES": infoRanges, "INFO_ARGS": infoArgs, "INFO_TABLE": infoTable,
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

func TestInfoEncode(t *testing.T) {
	got := Info{RAM: 0x1122334455, CPUs: 3, Free: []Range{{0x1000, 0x2000}, {0x1_0000_0000, 0x1_0000_3000}},
		Args: [MaxArgs]uint64{7, 0, 1 << 40}}.Encode()
	want := []byte{
		0x55, 0x44, 0x33, 0x22, 0x11, 0, 0, 0,
		3, 0, 0, 0, 2, 0, 0, 0,
		7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0,
		0, 0, 0, 0, 1, 0, 0, 0, 0, 0x30, 0, 0, 1, 0, 0, 0,
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got  % x\nwant % x", got, want)
	}
}
