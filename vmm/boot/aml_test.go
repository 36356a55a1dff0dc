package boot

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The bytes are those that ACPICA's compiler makes of the text.
func TestAML(t *testing.T) {
	for _, tt := range []struct {
		text      string
		got, want []byte
	}{
		{`Zero`, amlInteger(0), []byte{0}},
		{`0x05`, amlInteger(5), []byte{0x0a, 5}},
		{`0x1234`, amlInteger(0x1234), []byte{0x0b, 0x34, 0x12}},
		{`0xc0000000`, amlInteger(0xc0000000), []byte{0x0c, 0, 0, 0, 0xc0}},
		{`EISAID ("PNP0A03")`, amlEISA("PNP0A03"), []byte{0x0c, 0x41, 0xd0, 0x0a, 0x03}},
		{`"AB"`, amlText("AB"), []byte{0x0d, 'A', 'B', 0}},
		{`Name (X___, 5)`, amlNamed("X___", amlInteger(5)), []byte{0x08, 'X', '_', '_', '_', 0x0a, 5}},
		{`Package () { 5, 0 }`, amlPackaged(amlInteger(5), amlInteger(0)), []byte{0x12, 5, 2, 0x0a, 5, 0}},
		{`Scope (_SB) {}`, amlScoped("_SB_"), []byte{0x10, 5, '_', 'S', 'B', '_'}},
		{`Device (PCI0) {}`, amlDeviced("PCI0"), []byte{0x5b, 0x82, 5, 'P', 'C', 'I', '0'}},
		{`ResourceTemplate () {}`, amlResources(), []byte{0x11, 5, 0x0a, 2, 0x79, 0}},
		{`IO (Decode16, 0x505, 0x505, 1, 1)`, amlPorts(0x505, 1), []byte{0x47, 1, 5, 5, 5, 5, 1, 1}},
		{`WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0, 0, 0, 0, 1)`, amlBuses(0, 0),
			[]byte{0x88, 13, 0, 2, 0xc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0}},
		{`DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite, 0, 0xc0000000, 0xc3ffffff, 0, 0x4000000)`, amlMemory(0xc0000000, 0x4000000),
			[]byte{0x87, 23, 0, 0, 0xc, 1, 0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff, 0xff, 0xc3, 0, 0, 0, 0, 0, 0, 0, 4}},
	} {
		if !bytes.Equal(tt.got, tt.want) {
			t.Errorf("%s: % x, want % x", tt.text, tt.got, tt.want)
		}
	}
	// A length of 63 is the last that one byte holds.
	for n, want := range map[int][]byte{62: {0x3f}, 63: {0x41, 0x04}, 4093: {0x4f, 0xff}} {
		b := amlBlock([]byte{0x10}, make([]byte, n))
		if got := b[1 : len(b)-n]; !bytes.Equal(got, want) {
			t.Errorf("length before %d bytes: % x, want % x", n, got, want)
		}
	}
}

// TestDSDT holds the DSDT against ACPICA, which Linux has its interpreter from: it
// understands the table as it is meant, and makes the same bytes of the text.
func TestDSDT(t *testing.T) {
	iasl, err := exec.LookPath("iasl")
	if err != nil {
		t.Skip("SKIPPED: no iasl (Debian's acpica-tools), so nothing but the tests of its parts checks the DSDT")
	}
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command(iasl, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("iasl %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	table := sdt("DSDT", 2, dsdtCode())
	if err := os.WriteFile(filepath.Join(dir, "ours.aml"), table, 0o600); err != nil {
		t.Fatal(err)
	}
	run("-d", "ours.aml")
	text, err := os.ReadFile(filepath.Join(dir, "ours.dsl"))
	if err != nil {
		t.Fatal(err)
	}
	flat := regexp.MustCompile(`//[^\n]*|/\*[\s\S]*?\*/|\s+`).ReplaceAllString(string(text), "")
	for _, want := range []string{
		`_S5,Package(0x04){0x05,0x05,Zero,Zero})`,
		`Device(PCI0){Name(_HID,EisaId("PNP0A03"))Name(_CRS,ResourceTemplate(){`,
		`WordBusNumber(ResourceProducer,MinFixed,MaxFixed,PosDecode,0x0000,0x0000,0x0000,0x0000,0x0001,`,
		`IO(Decode16,0x0CF8,0x0CF8,0x01,0x08,)`,
		`DWordMemory(ResourceProducer,PosDecode,MinFixed,MaxFixed,NonCacheable,ReadWrite,0x00000000,0xC0000000,0xC3FFFFFF,0x00000000,0x04000000,`,
		`Device(PEVT){Name(_HID,"QEMU0001")Name(_CRS,ResourceTemplate(){IO(Decode16,0x0505,0x0505,0x01,0x01,)})}`,
	} {
		if !strings.Contains(flat, want) {
			t.Errorf("iasl doesn't read %s in\n%s", want, flat)
		}
	}
	run("-p", "theirs", "ours.dsl")
	theirs, err := os.ReadFile(filepath.Join(dir, "theirs.aml"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := table[sdtHeaderSize:], theirs[sdtHeaderSize:]; !bytes.Equal(got, want) {
		t.Errorf("our AML:\n% x\niasl's:\n% x", got, want)
	}
}
