// Package kernel finds a kernel's modules, and the order in which they load: those of
// an installed kernel, below lib/modules, and those of a build tree, which needs no
// installation.
package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
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

// Has reports whether the kernel has a module, or has it built in.
func (m *Modules) Has(name string) bool {
	name = moduleName(name)
	_, module := m.files[name]
	_, builtin := m.builtin[name]
	return module || builtin
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
	if errors.Is(err, fs.ErrNotExist) {
		return l.missing(name)
	}
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
