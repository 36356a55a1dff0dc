// Package kernel finds a kernel's modules, and the order in which they load: those of
// an installed kernel, below lib/modules.
package kernel

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Modules are the modules of one kernel.
type Modules struct {
	files   map[string]string // by name
	builtin map[string]string // by name
	// missing returns the error for a module that the kernel doesn't have.
	missing func(name string) error
}

// Installed reads the lists of an installed kernel's modules. dir is its
// lib/modules/RELEASE.
func Installed(dir string) (*Modules, error) {
	m := Modules{missing: func(name string) error {
		return fmt.Errorf("kernel %s has no module %s", filepath.Base(dir), name)
	}}
	var err error
	if m.files, err = readList(dir, "modules.order"); err != nil {
		return nil, err
	}
	if m.builtin, err = readList(dir, "modules.builtin"); err != nil {
		return nil, err
	}
	return &m, nil
}

// Files returns the files of the modules to load for names, each after those that it
// depends on. Names are as modprobe takes them, without aliases. What the kernel has
// built in needs no file.
func (m *Modules) Files(names ...string) ([]string, error) {
	l := loadOrder{Modules: m, done: map[string]bool{}}
	for _, n := range names {
		if err := l.add(n); err != nil {
			return nil, err
		}
	}
	return l.order, nil
}

// loadOrder is a list of modules' files in the making.
type loadOrder struct {
	*Modules
	order []string
	done  map[string]bool // false: its dependencies are being added
}

// add adds a module after all that it depends on.
func (l *loadOrder) add(name string) error {
	name = moduleName(name)
	if done, seen := l.done[name]; seen {
		if !done {
			return fmt.Errorf("module %s depends on itself", name)
		}
		return nil
	}
	path, ok := l.files[name]
	if !ok {
		if _, ok := l.builtin[name]; ok {
			return nil
		}
		return l.missing(name)
	}
	l.done[name] = false
	deps, err := dependencies(path)
	if err != nil {
		return err
	}
	for _, d := range deps {
		if err := l.add(d); err != nil {
			return fmt.Errorf("%w, which %s needs", err, name)
		}
	}
	l.done[name] = true
	l.order = append(l.order, path)
	return nil
}

// readList reads one of the lists of modules in dir: their files by name.
func readList(dir, file string) (map[string]string, error) {
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for line := range strings.Lines(string(text)) {
		path := strings.TrimSpace(line)
		files[moduleName(strings.TrimSuffix(filepath.Base(path), ".ko"))] = filepath.Join(dir, path)
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
