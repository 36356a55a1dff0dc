package debian

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Modules returns the files of the kernel's modules to load for names, each after
// those that it depends on. Names are as modprobe takes them, without aliases. What
// the kernel has built in needs no file.
func (k Kernel) Modules(names ...string) ([]string, error) {
	files, err := k.moduleList("modules.order")
	if err != nil {
		return nil, err
	}
	builtin, err := k.moduleList("modules.builtin")
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
			if builtin[name] != "" {
				return nil
			}
			return fmt.Errorf("kernel %s has no module %s%s", filepath.Base(k.ModulesDir), name, by)
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

// moduleList reads one of the kernel's lists of modules: their files by name.
func (k Kernel) moduleList(file string) (map[string]string, error) {
	text, err := os.ReadFile(filepath.Join(k.ModulesDir, file))
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for line := range strings.Lines(string(text)) {
		path := strings.TrimSpace(line)
		files[moduleName(strings.TrimSuffix(filepath.Base(path), ".ko"))] = filepath.Join(k.ModulesDir, path)
	}
	return files, nil
}

// moduleName makes - and _ the same, as modprobe does.
func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }

// dependencies reads the names that a module's .modinfo section lists. There is no
// modules.dep until somebody runs depmod.
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
