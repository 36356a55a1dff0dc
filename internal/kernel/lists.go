package kernel

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"offmap/internal/regular"
)

// Limits, in bytes, for files that this package reads. Lists are of less than 1 MiB for
// a kernel with all modules that there are. A module's .modinfo has some lines.
const (
	maxList    = 16 << 20
	maxModinfo = 1 << 20
	maxModule  = 256 << 20
)

// readText reads a whole file of at most maxList bytes.
func readText(path string) (string, error) {
	f, _, err := regular.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxList+1))
	if err == nil && len(text) > maxList {
		err = fmt.Errorf("%s: more than %d bytes", path, maxList)
	}
	return string(text), err
}

// readList reads one of the lists of modules in dir: their files by name.
func readList(dir, file string) (map[string]string, error) {
	text, err := readText(filepath.Join(dir, file))
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, path := range parseList(text) {
		files[moduleName(path)] = filepath.Join(dir, path)
	}
	return files, nil
}

// parseList returns the paths of modules that a list has, one on a line. A build tree of
// Linux 6.2 and newer lists objects (.o), others list modules. Paths that lead out of
// the list's directory are left out.
func parseList(text string) (paths []string) {
	for line := range strings.Lines(text) {
		path := strings.TrimSpace(line)
		path = strings.TrimSuffix(strings.TrimSuffix(path, ".ko"), ".o")
		if filepath.IsLocal(path) {
			paths = append(paths, path+".ko")
		}
	}
	return paths
}

// moduleName is the name of a module, or of the one in a file. It makes - and _ the
// same, as modprobe does.
func moduleName(path string) string {
	return strings.ReplaceAll(strings.TrimSuffix(filepath.Base(path), ".ko"), "-", "_")
}

// dependencies reads the names that a module's .modinfo section lists. There is no
// modules.dep until somebody runs depmod.
func dependencies(path string) ([]string, error) {
	f, info, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info.Size() > maxModule {
		return nil, fmt.Errorf("%s: a module of %d bytes; the most is %d", path, info.Size(), maxModule)
	}
	deps, err := readDependencies(io.NewSectionReader(f, 0, info.Size()))
	if err != nil {
		return nil, fmt.Errorf("%s: not a kernel module: %w", path, err)
	}
	return deps, nil
}

// readDependencies is dependencies of a module's content.
func readDependencies(r io.ReaderAt) ([]string, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, err
	}
	sec := f.Section(".modinfo")
	if sec == nil {
		return nil, errors.New("no .modinfo section")
	}
	data, err := io.ReadAll(io.LimitReader(sec.Open(), maxModinfo))
	if err != nil {
		return nil, fmt.Errorf(".modinfo: %w", err)
	}
	for entry := range strings.SplitSeq(string(data), "\x00") {
		if list, ok := strings.CutPrefix(entry, "depends="); ok {
			return strings.FieldsFunc(list, func(r rune) bool { return r == ',' }), nil
		}
	}
	return nil, nil
}
