// Package initramfs builds the initramfs with which offmap boots Linux by default.
// It holds one program, which is process 1 and, through links, every command
// (package userland). The program is embedded here, or is the offmap binary itself
// (see small). So a guest can run without anything to build, fetch or cache first.
package initramfs

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"

	"offmap/guest/agent"
	"offmap/guest/initramfs/userland"
	"offmap/internal/regular"
)

// Options of New. The zero value is good.
type Options struct {
	// Init is the file of the program to start as process 1. It must be static,
	// and run what userland.Program returns. If Init is empty, it is the
	// embedded program, or else the program that runs now.
	Init string
	// Files are regular files of the host to add: path in the guest to path
	// on the host. Missing directories are made.
	Files map[string]string
	// Modules are files of the host with kernel modules, not compressed.
	// Process 1 loads them in this order, before it does anything else.
	// Their debugging information is left out.
	Modules []string
	// Exec, if not nil, has process 1 run a command of the host, and end.
	Exec *agent.Spec
}

// New builds an initramfs in the kernel's newc format
// (Documentation/driver-api/early-userspace/buffer-format.rst). It is uncompressed,
// because a guest copies faster than it decompresses, above all under emulation. Files
// are read when the result is, and have to stay as they are until then.
func New(opts Options) (*io.SectionReader, error) {
	a := archive{dirs: map[string]bool{".": true}}
	if err := a.addAll(opts); err != nil {
		return nil, fmt.Errorf("build the initramfs: %w", err)
	}
	return a.content.reader(), nil
}

// maxFile is the most bytes of a file: newc has 32 bits for a size.
const maxFile = 1<<32 - 1

// archive writes records, and writes each directory before its entries.
type archive struct {
	content pieces
	dirs    map[string]bool
	inode   uint64
}

func (a *archive) addAll(opts Options) error {
	for _, d := range []string{"bin", "dev", "proc", "sys", "tmp", "root"} {
		if err := a.addDir(d); err != nil {
			return err
		}
	}
	// The kernel opens the console for process 1 before that can mount a
	// devtmpfs.
	a.add(cpio.CharDev("dev/console", 0o600, 5, 1))
	a.add(cpio.CharDev("dev/null", 0o666, 1, 3))
	if err := a.addInit(opts.Init); err != nil {
		return err
	}
	for _, name := range userland.Names() {
		a.add(cpio.Symlink("bin/"+name, "/init"))
	}
	for _, name := range slices.Sorted(maps.Keys(opts.Files)) {
		if err := a.addFile(name, opts.Files[name], nil); err != nil {
			return err
		}
	}
	for i, file := range opts.Modules {
		name := fmt.Sprintf("%s/%03d-%s", userland.ModulesDir, i, path.Base(file))
		if err := a.addFile(name, file, withoutDebug); err != nil {
			return err
		}
	}
	if opts.Exec != nil {
		text, err := json.Marshal(opts.Exec)
		if err != nil {
			return err
		}
		a.add(record(agent.SpecPath[1:], bytes.NewReader(text), int64(len(text)), 0o600))
	}
	a.add(cpio.Record{Info: cpio.Info{Name: "TRAILER!!!", NLink: 1}})
	return nil
}

// add writes a record, whose directory has been written.
func (a *archive) add(r cpio.Record) {
	// Files with the same inode number would be hard links of each other.
	a.inode++
	size := uint64(0)
	if r.ReaderAt != nil {
		size = r.FileSize
	}
	w := &a.content
	fmt.Fprintf(w, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		a.inode, r.Mode, r.UID, r.GID, r.NLink, r.MTime, size, r.Major, r.Minor, r.Rmajor, r.Rminor, len(r.Name)+1, 0, r.Name)
	const header = 110
	w.Write(padding(header + len(r.Name) + 1))
	w.add(r.ReaderAt, int64(size))
	w.Write(padding(int(size % 4)))
}

// padding is what follows size bytes up to a multiple of 4.
func padding(size int) []byte { return make([]byte, -size&3) }

func (a *archive) addDir(name string) error {
	if a.dirs[name] {
		return nil
	}
	if err := a.addDir(path.Dir(name)); err != nil {
		return err
	}
	a.dirs[name] = true
	a.add(cpio.Directory(name, 0o755))
	return nil
}

// addFile adds a file of the host with its permissions. If smaller is not nil and returns
// no error, the content is what it makes of the file's.
func (a *archive) addFile(name, host string, smaller func(io.ReaderAt, int64) (*io.SectionReader, error)) error {
	// A rooted clean path has no "..", so it can't lead out of the guest's root.
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	f, info, err := regular.Open(host)
	if err != nil {
		return err
	}
	f.Close()
	if info.Size() > maxFile {
		return fmt.Errorf("%s: %d bytes are too many for an initramfs", host, info.Size())
	}
	if name == "" || a.dirs[name] {
		return fmt.Errorf("%s: %q is a directory in the guest", host, "/"+name)
	}
	if err := a.addDir(path.Dir(name)); err != nil {
		return err
	}
	content := io.NewSectionReader(hostFile{host, info.Size()}, 0, info.Size())
	if smaller != nil {
		if r, err := smaller(content, content.Size()); err == nil {
			content = r
		}
	}
	a.add(record(name, content, content.Size(), info.Mode().Perm()))
	return nil
}

// addInit adds the program at file, or else the default, as /init.
func (a *archive) addInit(file string) error {
	if file == "" && small != "" {
		a.add(record("init", strings.NewReader(small), int64(len(small)), 0o755))
		return nil
	}
	if file == "" {
		// This link leads to the program even if its file has been replaced.
		file = "/proc/self/exe"
	}
	f, _, err := regular.Open(file)
	if errors.Is(err, fs.ErrPermission) {
		// It may be a copy that nobody may read (package undumpable).
		return fmt.Errorf("%w: this build of offmap has no program for guests embedded: build it with `make`", err)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := loadedSize(f)
	if err != nil {
		return fmt.Errorf("%s as the guest's init: %w", file, err)
	}
	a.add(record("init", hostFile{file, size}, size, 0o755))
	return nil
}

func record(name string, r io.ReaderAt, size int64, perm fs.FileMode) cpio.Record {
	return cpio.Record{
		ReaderAt: r,
		Info: cpio.Info{
			Name: name, Mode: cpio.S_IFREG | uint64(perm), NLink: 1, FileSize: uint64(size),
		},
	}
}

// loadedSize checks that a guest without libraries can run the program in r, and
// returns the size, in bytes, of the part that the kernel loads. The symbols after
// it would only take the guest's memory.
func loadedSize(r io.ReaderAt) (int64, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return 0, err
	}
	if f.Machine != elf.EM_X86_64 {
		return 0, fmt.Errorf("a program for %v, and guests are x86-64", f.Machine)
	}
	size := uint64(0)
	for _, p := range f.Progs {
		switch p.Type {
		case elf.PT_INTERP:
			return 0, errors.New("dynamically linked, and the guest has no libraries: build it with CGO_ENABLED=0")
		case elf.PT_LOAD:
			size = max(size, p.Off+p.Filesz)
		}
	}
	if size == 0 || size > maxFile {
		return 0, fmt.Errorf("%d bytes to load", size)
	}
	return int64(size), nil
}
