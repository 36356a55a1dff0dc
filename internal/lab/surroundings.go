package lab

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// The lab gives a command line the files and the environment that it would
// have on this host.

var debianName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?:^|=)debian:(\S+)$`)
})

// NeededSeries lists the Debian kernels that args name as debian:SERIES.
func NeededSeries(args []string) []string {
	var list []string
	for _, a := range args {
		if m := debianName().FindStringSubmatch(a); m != nil && !slices.Contains(list, m[1]) {
			list = append(list, m[1])
		}
	}
	return list
}

// value is what may be a path in an argument: all of it, or what follows a flag's =.
func value(arg string) string {
	if strings.HasPrefix(arg, "-") {
		_, arg, _ = strings.Cut(arg, "=")
	}
	return arg
}

// NeededFiles lists the files that args name: absolute paths, alone or after a flag's =.
func NeededFiles(args []string) []string {
	var list []string
	for _, a := range args {
		a = value(a)
		if !filepath.IsAbs(a) || !shareable(a) || slices.Contains(list, a) {
			continue
		}
		if st, err := os.Stat(a); err == nil && st.Mode().IsRegular() {
			list = append(list, a)
		}
	}
	return list
}

// NeededDirs lists the directories, outside of dir, of the files that args
// name: a path with a slash, alone or after a flag's =, that exists or could
// be created.
func NeededDirs(dir string, args []string) []string {
	var list []string
	for _, a := range args {
		a = value(a)
		if !strings.Contains(a, "/") {
			continue
		}
		if !filepath.IsAbs(a) {
			a = filepath.Join(dir, a)
		}
		a = filepath.Clean(a)
		if st, err := os.Stat(a); err != nil || !st.IsDir() {
			a = filepath.Dir(a)
		}
		if st, err := os.Stat(a); err != nil || !st.IsDir() {
			continue
		}
		if shareable(a) && !within(a, dir) && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

// shareable says whether a host directory may be mounted inside: not where
// it would hide what makes up the machine.
func shareable(dir string) bool {
	if dir == "/" {
		return false
	}
	for _, own := range []string{"/proc", "/sys", "/dev", "/run", "/lab", "/lib"} {
		if within(dir, own) {
			return false
		}
	}
	return true
}

// within says whether path is dir or below it; both are clean.
func within(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

// Environment is what of the host's environment is passed on: what steers
// offmap and Go programs, and what describes the terminal.
func Environment(host []string, cache string) []string {
	env := []string{"OFFMAP_CACHE=" + cache}
	for _, kv := range host {
		name, _, _ := strings.Cut(kv, "=")
		switch {
		case name == "OFFMAP_CACHE":
		case strings.HasPrefix(name, "OFFMAP_"),
			slices.Contains([]string{"TERM", "NO_COLOR", "GODEBUG", "GOTRACEBACK", "GOMAXPROCS", "GOGC"}, name):
			env = append(env, kv)
		}
	}
	return env
}
