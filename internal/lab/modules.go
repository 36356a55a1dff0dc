package lab

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// wanted are the modules that the inside of any lab machine needs. Which of
// them are built in differs from kernel to kernel.
var wanted = []string{"virtio_pci", "virtio_console", "fuse", "kvm_amd"}

// modules lists the files of the kernel's modules to load, in this order.
func (cfg *Config) modules() ([]string, error) {
	more := cfg.Modules
	if cfg.Swap > 0 {
		more = slices.Concat([]string{"virtio_blk"}, more)
	}
	return moduleClosure(cfg.Kernel.ModulesDir, slices.Concat(wanted, more))
}

// moduleClosure lists the files below dir (a lib/modules/RELEASE) to load for
// names, dependencies first. What a kernel has built in needs no file. The
// modules themselves say what they depend on; modules.dep is not there until
// somebody runs depmod.
func moduleClosure(dir string, names []string) ([]string, error) {
	files, err := moduleFiles(dir)
	if err != nil {
		return nil, err
	}
	builtin, err := builtinModules(dir)
	if err != nil {
		return nil, err
	}
	var (
		order []string
		state = map[string]bool{} // false: being visited, true: in order
		visit func(name, by string) error
	)
	visit = func(name, by string) error {
		name = moduleName(name)
		if done, seen := state[name]; seen {
			if !done {
				return fmt.Errorf("module %s depends on itself", name)
			}
			return nil
		}
		path, ok := files[name]
		if !ok {
			if builtin[name] {
				return nil
			}
			return fmt.Errorf("kernel %s has no module %s%s", filepath.Base(dir), name, by)
		}
		state[name] = false
		deps, err := dependencies(path)
		if err != nil {
			return err
		}
		for _, d := range deps {
			if err := visit(d, ", which "+name+" needs"); err != nil {
				return err
			}
		}
		state[name] = true
		order = append(order, path)
		return nil
	}
	for _, n := range names {
		if err := visit(n, ""); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// moduleName makes - and _ the same, as modprobe does.
func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }

func moduleFiles(dir string) (map[string]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(filepath.Join(dir, "kernel"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name, ok := strings.CutSuffix(d.Name(), ".ko"); ok {
			files[moduleName(name)] = path
		}
		return nil
	})
	return files, err
}

func builtinModules(dir string) (map[string]bool, error) {
	text, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	builtin := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		name := strings.TrimSuffix(filepath.Base(strings.TrimSpace(line)), ".ko")
		builtin[moduleName(name)] = true
	}
	return builtin, nil
}

// dependencies reads the names that a module's .modinfo section lists.
func dependencies(path string) ([]string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	sec := f.Section(".modinfo")
	if sec == nil {
		return nil, fmt.Errorf("%s: no .modinfo section, not a kernel module", path)
	}
	data, err := sec.Data()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for entry := range bytes.SplitSeq(data, []byte{0}) {
		if list, ok := strings.CutPrefix(string(entry), "depends="); ok {
			return strings.FieldsFunc(list, func(r rune) bool { return r == ',' }), nil
		}
	}
	return nil, nil
}
