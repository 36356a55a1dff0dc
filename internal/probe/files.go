package probe

import (
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

// chosen returns the word in brackets of a file such as "always [never]".
func (f files) chosen(path string) string {
	_, rest, _ := strings.Cut(f.line(path), "[")
	word, _, ok := strings.Cut(rest, "]")
	if !ok {
		return ""
	}
	return word
}

// meminfo is what the host says of its memory.
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
