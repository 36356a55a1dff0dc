package initramfs

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/u-root/u-root/pkg/cpio"
)

// program returns an ELF executable with n bytes to load and n behind them.
func program(t *testing.T, machine elf.Machine, interp bool, n uint64) []byte {
	t.Helper()
	progs := []elf.Prog64{{Type: uint32(elf.PT_LOAD), Filesz: n, Memsz: n}}
	if interp {
		progs = append(progs, elf.Prog64{Type: uint32(elf.PT_INTERP)})
	}
	h := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: uint16(len(progs)),
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS] = byte(elf.ELFCLASS64)
	h.Ident[elf.EI_DATA] = byte(elf.ELFDATA2LSB)
	h.Ident[elf.EI_VERSION] = byte(elf.EV_CURRENT)
	var b bytes.Buffer
	for _, v := range []any{h, progs} {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	return append(b.Bytes(), make([]byte, 2*int(n)-b.Len())...)
}

// write makes a file of the host.
func write(t *testing.T, content []byte, perm os.FileMode) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(f, content, perm); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestNew(t *testing.T) {
	init := program(t, elf.EM_X86_64, false, 5000)
	opts := Options{
		Init: write(t, init, 0o600),
		Files: map[string]string{
			"/lib/modules/x.ko": write(t, []byte("module"), 0o640),
			"../../etc/motd":    write(t, []byte("hi"), 0o644),
		},
		Modules: []string{write(t, []byte("first"), 0o644), write(t, []byte("second"), 0o644)},
	}
	r, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(r))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]cpio.Record{}
	inodes := map[uint64]string{}
	for _, rec := range records {
		if _, ok := seen[filepath.Dir(rec.Name)]; !ok && filepath.Dir(rec.Name) != "." {
			t.Errorf("%s comes before its directory", rec.Name)
		}
		if other, ok := inodes[rec.Ino]; ok {
			t.Errorf("%s and %s have one inode number", rec.Name, other)
		}
		inodes[rec.Ino] = rec.Name
		seen[rec.Name] = rec
	}
	for _, want := range []struct {
		name, content string
		mode          uint64
		major, minor  uint64
	}{
		{name: "init", mode: cpio.S_IFREG | 0o755, content: string(init[:5000])},
		{name: "bin/sh", mode: cpio.S_IFLNK | 0o777, content: "/init"},
		{name: "bin/canary", mode: cpio.S_IFLNK | 0o777, content: "/init"},
		{name: "proc", mode: cpio.S_IFDIR | 0o755},
		{name: "dev/console", mode: cpio.S_IFCHR | 0o600, major: 5, minor: 1},
		{name: "dev/null", mode: cpio.S_IFCHR | 0o666, major: 1, minor: 3},
		{name: "lib/modules", mode: cpio.S_IFDIR | 0o755},
		{name: "lib/modules/x.ko", mode: cpio.S_IFREG | 0o640, content: "module"},
		{name: "modules/000-file", mode: cpio.S_IFREG | 0o644, content: "first"},
		{name: "modules/001-file", mode: cpio.S_IFREG | 0o644, content: "second"},
		{name: "etc/motd", mode: cpio.S_IFREG | 0o644, content: "hi"},
	} {
		rec, ok := seen[want.name]
		if !ok {
			t.Errorf("%s is not there", want.name)
			continue
		}
		content := ""
		if rec.ReaderAt != nil {
			b, err := io.ReadAll(io.NewSectionReader(rec, 0, int64(rec.FileSize)))
			if err != nil {
				t.Fatal(err)
			}
			content = string(b)
		}
		if rec.Mode != want.mode || content != want.content || rec.Rmajor != want.major || rec.Rminor != want.minor {
			t.Errorf("%s: mode %#o, device %d:%d, %d bytes; want %#o, %d:%d, %d bytes", want.name,
				rec.Mode, rec.Rmajor, rec.Rminor, len(content), want.mode, want.major, want.minor, len(want.content))
		}
	}
	again, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(readAll(t, r), readAll(t, again)) {
		t.Error("the same initramfs is not the same the second time")
	}
}

// TestChanged reads an initramfs, one of whose files has shrunk since.
func TestChanged(t *testing.T) {
	file := write(t, []byte("a module"), 0o600)
	r, err := New(Options{Init: write(t, program(t, elf.EM_X86_64, false, 5000), 0o600), Modules: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 2); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); err == nil {
		t.Errorf("read %d bytes of %d and no error", len(b), r.Size())
	}
}

// TestPieces reads all ranges of content that is made of pieces.
func TestPieces(t *testing.T) {
	var p pieces
	for _, s := range []string{"one", "", "two", "a longer one"} {
		p.add(strings.NewReader(s), int64(len(s)))
		p.Write([]byte(s))
	}
	const whole = "oneonetwotwoa longer onea longer one"
	if r := p.reader(); r.Size() != int64(len(whole)) {
		t.Fatalf("%d bytes, want %d", r.Size(), len(whole))
	}
	for from := range len(whole) + 2 {
		for to := from; to <= len(whole)+2; to++ {
			b := make([]byte, to-from)
			n, err := p.ReadAt(b, int64(from))
			want := whole[min(from, len(whole)):min(to, len(whole))]
			if string(b[:n]) != want || (err != nil) != (n < len(b)) {
				t.Errorf("%d to %d: %q, %v, want %q", from, to, b[:n], err, want)
			}
		}
	}
}

func readAll(t *testing.T, r *io.SectionReader) []byte {
	t.Helper()
	b := make([]byte, r.Size())
	if _, err := r.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestNewErrors(t *testing.T) {
	good := write(t, program(t, elf.EM_X86_64, false, 5000), 0o600)
	for _, tt := range []struct {
		name string
		opts Options
		err  string
	}{
		{"no such init", Options{Init: "/nonexistent"}, "/nonexistent"},
		{"init is a directory", Options{Init: t.TempDir()}, "not a regular file"},
		{"init is no program", Options{Init: write(t, []byte("#!/bin/sh"), 0o700)}, "init"},
		{"dynamic init", Options{Init: write(t, program(t, elf.EM_X86_64, true, 5000), 0o700)}, "CGO_ENABLED=0"},
		{"init of another machine", Options{Init: write(t, program(t, elf.EM_AARCH64, false, 5000), 0o700)}, "x86-64"},
		{"no such file", Options{Init: good, Files: map[string]string{"a": "/nonexistent"}}, "/nonexistent"},
		{"no such module", Options{Init: good, Modules: []string{"/nonexistent.ko"}}, "/nonexistent.ko"},
		{"file where a directory is", Options{Init: good, Files: map[string]string{"bin/": good}}, "directory"},
		{"file at the root", Options{Init: good, Files: map[string]string{"": good}}, "directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(tt.opts)
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want one with %q", err, tt.err)
			}
		})
	}
}

func FuzzLoadedSize(f *testing.F) {
	f.Add([]byte(elf.ELFMAG))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := loadedSize(bytes.NewReader(b)); err == nil && n <= 0 {
			t.Errorf("%d bytes to load and no error", n)
		}
	})
}
