package lab

import (
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/u-root/u-root/pkg/cpio"

	"offmap/guest/initramfs/userland"
	"offmap/internal/lab/inside"
	"offmap/internal/lab/wire"
)

// writeInitramfs writes all that a lab machine holds to w: the offmap binary
// as /init, and in BinDir under its own and its userland's names; the program
// to run if it is another one; kernel modules below lib/modules; the spec.
func writeInitramfs(w io.Writer, cfg *Config, modules []string, spec wire.Spec) error {
	var files []cpio.Record
	dirs := map[string]bool{}
	var addDir func(dir string)
	addDir = func(dir string) {
		if dir == "." || dirs[dir] {
			return
		}
		addDir(filepath.Dir(dir))
		dirs[dir] = true
		files = append(files, cpio.Directory(dir, 0o755))
	}
	var open []*os.File
	defer func() {
		for _, f := range open {
			f.Close()
		}
	}()
	addFile := func(name, path string, mode uint64) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		open = append(open, f)
		st, err := f.Stat()
		if err != nil {
			return err
		}
		addDir(filepath.Dir(name))
		files = append(files, cpio.Record{
			ReaderAt: f,
			Info: cpio.Info{
				Name: name, Mode: cpio.S_IFREG | mode, NLink: 1, FileSize: uint64(st.Size()),
			},
		})
		return nil
	}

	for _, d := range []string{"dev", "proc", "sys", "tmp", "run", "root", "lab"} {
		addDir(d)
	}
	// The kernel opens it for process 1 before anything is mounted.
	files = append(files, cpio.CharDev("dev/console", 0o600, 5, 1))
	if err := addFile("init", cfg.Init, 0o755); err != nil {
		return err
	}
	addDir(inside.BinDir[1:])
	for _, name := range append(userland.Names(), "offmap") {
		files = append(files, cpio.Symlink(inside.BinDir[1:]+"/"+name, "/init"))
	}
	if cfg.Program != "" {
		if err := addFile(programPath(cfg.Program)[1:], cfg.Program, 0o755); err != nil {
			return err
		}
	}
	for _, path := range cfg.Carry {
		if err := addFile(path[1:], path, 0o755); err != nil {
			return err
		}
	}
	for _, m := range modules {
		name := filepath.Join("/lib/modules", cfg.Kernel.Release, filepath.Base(m))
		spec.Modules = append(spec.Modules, name)
		if err := addFile(name[1:], m, 0o644); err != nil {
			return err
		}
	}
	if cfg.Module != "" {
		spec.Offmap = "/lib/modules/" + cfg.Kernel.Release + "/extra/offmap.ko"
		if err := addFile(spec.Offmap[1:], cfg.Module, 0o644); err != nil {
			return err
		}
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	files = append(files, cpio.StaticFile(wire.SpecPath[1:], string(text), 0o644))

	rw := cpio.Newc.Writer(w)
	if err := cpio.WriteRecords(rw, files); err != nil {
		return fmt.Errorf("write the initramfs: %w", err)
	}
	return cpio.WriteTrailer(rw)
}

// programPath is where the initramfs holds the program at path.
func programPath(path string) string { return "/lab/program/" + filepath.Base(path) }

// checkStatic makes sure that path is a program that runs without any library
// or interpreter, of which a lab machine has none.
func checkStatic(path string) error {
	// A pipe would keep the open waiting.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s: not a regular file", path)
	}
	f, err := elf.Open(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
			return err
		}
		return fmt.Errorf("%s: not an ELF executable (%w)", path, err)
	}
	defer f.Close()
	if f.Machine != elf.EM_X86_64 {
		return fmt.Errorf("%s: for %v, the lab runs x86-64", path, f.Machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is dynamically linked, and the lab has no libraries: build it with CGO_ENABLED=0", path)
		}
	}
	return nil
}
