package symbols

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const systemMap = `0000000000000000 D __per_cpu_start
ffffffff81000000 T startup_64
ffffffff81c00080 T entry_SYSCALL_64
ffffffff81001000 t default_idle
ffffffff81001000 W arch_idle
ffffffff81001020 T cpu_startup_entry
ffffffff82000000 D init_task
`

func TestFind(t *testing.T) {
	for _, c := range []struct {
		name              string
		file, image, tree string // below the test's directory
		text              string
		want              bool
	}{
		{"beside it", "System.map", "bzImage", "", systemMap, true},
		{"installed", "System.map-6.1.0-9-amd64", "vmlinuz-6.1.0-9-amd64", "", systemMap, true},
		{"another's", "System.map-6.1.0-8-amd64", "vmlinuz-6.1.0-9-amd64", "", systemMap, false},
		{"another's, unnamed", "System.map", "vmlinuz-6.1.0-9-amd64", "", systemMap, false},
		{"in the tree", "System.map", "arch/x86/boot/bzImage", ".", systemMap, true},
		{"Debian's", "System.map-6.1", "vmlinuz-6.1", "", "ffffffffffffffff B The real System.map is in the linux-image-6.1-dbg package\n", false},
		{"empty", "System.map", "bzImage", "", "", false},
		{"junk", "System.map", "bzImage", "", "z T entry_SYSCALL_64\n\x7fELF", false},
		{"long line", "System.map", "bzImage", "", strings.Repeat("x", 1<<20), false},
		{"a broken ELF file", "vmlinux", "bzImage", "", "\x7fELF\x02\x01\x01", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, c.file)
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			tree := c.tree
			if tree != "" {
				tree = dir
			}
			table, err := Find(filepath.Join(dir, c.image), tree)
			if (err == nil) != c.want || err == nil && table.File != file {
				t.Errorf("%+v, %v", table, err)
			}
		})
	}
}

func TestNames(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "System.map"), []byte(systemMap), 0o600); err != nil {
		t.Fatal(err)
	}
	table, err := Find(filepath.Join(dir, "bzImage"), "")
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[uint64]string{
		0: "", 0xffffffff80ffffff: "",
		0xffffffff81000000: "startup_64+0x0", 0xffffffff81001000: "default_idle+0x0", 0xffffffff8100101f: "default_idle+0x1f",
		0xffffffff81001020: "cpu_startup_entry+0x0", 0xffffffff81d00080: "", 1<<64 - 1: "",
	} {
		if got, ok := table.Name(addr); got != want || ok != (want != "") {
			t.Errorf("0x%x is %q, %t, want %q", addr, got, ok, want)
		}
	}
	for lstar, want := range map[uint64]bool{
		0: false, 0xffffffff81c00080: true, 0xffffffff9ee00080: true, 0xffffffff81c00081: false, 0xffffffff81d00080: false,
	} {
		if offset, ok := table.Offset(lstar); ok != want || ok && offset != lstar-0xffffffff81c00080 {
			t.Errorf("LSTAR 0x%x: offset 0x%x, %t", lstar, offset, ok)
		}
	}
}

// TestELF reads the functions of an ELF file that a linker has made.
func TestELF(t *testing.T) {
	as, err := exec.LookPath("as")
	if err != nil {
		t.Skip("SKIPPED: no assembler (apt install binutils)")
	}
	dir := t.TempDir()
	source, file := filepath.Join(dir, "a.s"), filepath.Join(dir, "vmlinux")
	text := ".text\nnop\nentry_SYSCALL_64: nop\n.type f, @function\nf: nop\nlabel: nop\n"
	if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(as, "-o", file, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	table, err := Find(file, "")
	if err != nil {
		t.Fatal(err)
	}
	if name, ok := table.Name(3); name != "f+0x1" || !ok {
		t.Errorf("%q, %t", name, ok)
	}
}

// FuzzMap reads arbitrary files.
func FuzzMap(f *testing.F) {
	f.Add([]byte(systemMap), uint64(0xffffffff81001001))
	f.Add([]byte("\x7fELF\x02\x01\x01"), uint64(0))
	f.Fuzz(func(t *testing.T, text []byte, addr uint64) {
		file := filepath.Join(t.TempDir(), "vmlinux")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if table, err := Find(file, ""); err == nil {
			table.Name(addr)
			table.Offset(addr)
		}
	})
}
