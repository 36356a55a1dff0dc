// Package symbols names the places in a guest's Linux kernel by the kernel's own files.
package symbols

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"offmap/internal/regular"
)

// Table is the functions of a kernel, by address.
type Table struct {
	File  string // where they are from
	list  []symbol
	entry uint64 // of system calls
}

type symbol struct {
	addr uint64
	name string
}

// errNone is the error of a file that lacks the functions of a kernel. Debian's
// System.map is one line, which says where the real one is.
var errNone = errors.New("no functions of a kernel in it")

const (
	// entryName is the function that enters the kernel for system calls
	// (arch/x86/entry/entry_64.S). Its address is in the MSR LSTAR (syscall_init,
	// arch/x86/kernel/cpu/common.c).
	entryName = "entry_SYSCALL_64"
	// maxFile bounds a System.map, in bytes. They have a few MiB.
	maxFile = 64 << 20
	// maxFunction is more than the size of a function. Without it the last one
	// would have no end.
	maxFunction = 1 << 20
)

// Find returns the functions of the kernel in a file, if they are at hand: in the file
// itself, beside it, or in the top of the build tree that it is from ("" if there is
// none). The names beside it are those under which kernels are installed: System.map-V
// for vmlinuz-V.
func Find(image, tree string) (*Table, error) {
	dir, base := filepath.Split(image)
	files := []string{image}
	if tree != "" {
		files = append(files, filepath.Join(tree, "System.map"), filepath.Join(tree, "vmlinux"))
	}
	if _, version, ok := strings.Cut(base, "-"); ok {
		files = append(files, dir+"System.map-"+version, dir+"vmlinux-"+version)
	} else {
		files = append(files, dir+"System.map", dir+"vmlinux")
	}
	for _, f := range files {
		if t, err := open(f); err == nil {
			return t, nil
		}
	}
	return nil, fmt.Errorf("no System.map and no vmlinux for %s", image)
}

// open reads a System.map or an ELF file.
func open(path string) (*Table, error) {
	f, _, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t := &Table{File: path}
	magic := make([]byte, len(elf.ELFMAG))
	if _, err := f.ReadAt(magic, 0); err != nil {
		return nil, err
	}
	if string(magic) == elf.ELFMAG {
		err = t.readELF(f)
	} else {
		err = t.readMap(io.LimitReader(f, maxFile))
	}
	if err == nil {
		err = t.finish()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

func (t *Table) readELF(r io.ReaderAt) error {
	f, err := elf.NewFile(r)
	if err != nil {
		return err
	}
	list, err := f.Symbols()
	for _, s := range list {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC || s.Name == entryName {
			t.list = append(t.list, symbol{s.Value, s.Name})
		}
	}
	return err
}

// readMap reads lines such as "ffffffff81000000 T startup_64", as nm(1) prints them.
func (t *Table) readMap(r io.Reader) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := bytes.Fields(lines.Bytes())
		if len(f) != 3 || len(f[1]) != 1 || !bytes.ContainsAny(f[1], "tTwW") {
			continue
		}
		addr, err := strconv.ParseUint(string(f[0]), 16, 64)
		if err != nil {
			return errNone
		}
		t.list = append(t.list, symbol{addr, string(f[2])})
	}
	return lines.Err()
}

func (t *Table) finish() error {
	i := slices.IndexFunc(t.list, func(s symbol) bool { return s.name == entryName })
	if i < 0 {
		return errNone
	}
	t.entry = t.list[i].addr
	slices.SortStableFunc(t.list, func(a, b symbol) int {
		switch {
		case a.addr < b.addr:
			return -1
		case a.addr > b.addr:
			return 1
		}
		return 0
	})
	return nil
}

// align is the granule of KASLR (CONFIG_PHYSICAL_ALIGN).
const align = 2 << 20

// Offset returns how far KASLR has moved the kernel. lstar is the MSR LSTAR of one of
// its vCPUs. Without one the offset isn't known, and neither is that of another kernel.
func (t *Table) Offset(lstar uint64) (offset uint64, ok bool) {
	offset = lstar - t.entry
	return offset, lstar != 0 && offset%align == 0
}

// Name returns the function at an address, which KASLR hasn't moved, and how far into
// it: "default_idle+0xf".
func (t *Table) Name(addr uint64) (name string, ok bool) {
	i, found := slices.BinarySearchFunc(t.list, addr, func(s symbol, a uint64) int {
		switch {
		case s.addr < a:
			return -1
		case s.addr > a:
			return 1
		}
		return 0
	})
	if !found {
		i--
	}
	if i < 0 || addr-t.list[i].addr >= maxFunction {
		return "", false
	}
	for i > 0 && t.list[i-1].addr == t.list[i].addr { // of several names the file's first
		i--
	}
	return fmt.Sprintf("%s+0x%x", t.list[i].name, addr-t.list[i].addr), true
}
