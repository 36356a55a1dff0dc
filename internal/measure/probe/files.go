package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"offmap/memory"
)

// files is the file system that checks read, from its root.
type files struct{ fs.FS }

// line returns a file without the white space around it, or "" where it can't
// be read.
func (f files) line(path string) string {
	b, err := fs.ReadFile(f, path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// inside lists files that exist if their file system is mounted. The first entry
// whose prefix fits counts for a path.
var inside = []struct{ prefix, file string }{
	{"sys/kernel/security/", "sys/kernel/security/lsm"},
	{"sys/", "sys/kernel"},
	{"proc/", "proc/sys"},
}

// setting returns a file without the white space around it, or "" if this kernel
// doesn't have it. The error says that the file can't be read, or that its file
// system isn't mounted.
func (f files) setting(path string) (string, error) {
	b, err := fs.ReadFile(f, path)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		for _, in := range inside {
			if !strings.HasPrefix(path, in.prefix) {
				continue
			}
			if _, err := fs.Stat(f, in.file); err != nil {
				return "", fmt.Errorf("no /%s to look at", strings.TrimSuffix(in.prefix, "/"))
			}
			return "", nil
		}
	}
	return "", err
}

// chosen returns the word in brackets of a file such as "always [never]". Without
// such a file it returns what setting returns.
func (f files) chosen(path string) (string, error) {
	text, err := f.setting(path)
	if err != nil || text == "" {
		return "", err
	}
	_, rest, _ := strings.Cut(text, "[")
	word, _, ok := strings.Cut(rest, "]")
	if !ok {
		return "", fmt.Errorf("/%s is %q", path, text)
	}
	return word, nil
}

// meminfo returns the host's memory figures.
func (f files) meminfo() memory.Meminfo { return memory.ParseMeminfo(f.line("proc/meminfo")) }

// bootParam returns the last value of a word of the kernel's command line.
// What follows "--" is for process 1.
func (f files) bootParam(name string) (value string, ok bool) {
	for _, w := range strings.Fields(f.line("proc/cmdline")) {
		if w == "--" {
			break
		}
		if k, v, _ := strings.Cut(w, "="); k == name {
			value, ok = v, true
		}
	}
	return value, ok
}
