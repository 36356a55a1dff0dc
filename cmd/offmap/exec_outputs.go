package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Flags of Go's test programs, without "-test.", that name a file or a directory to write
// (go help testflag).
var (
	testFiles = []string{"blockprofile", "coverprofile", "cpuprofile", "memprofile", "mutexprofile", "testlogfile", "trace"}
	testDirs  = []string{"fuzzcachedir", "gocoverdir"}
)

// outputDirs returns the directories in which a command that is started in dir writes its
// results: those of a Go test program's flags, and coverDir, which is $GOCOVERDIR. It
// leaves out what isn't an existing directory.
func outputDirs(argv []string, dir, coverDir string) (dirs []string) {
	add := func(path string) {
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		path = filepath.Clean(path)
		if info, err := os.Stat(path); err == nil && info.IsDir() && path != "/" && !slices.Contains(dirs, path) {
			dirs = append(dirs, path)
		}
	}
	if coverDir != "" {
		add(coverDir)
	}
	output := dir
	for _, f := range argv[1:] {
		if v, ok := strings.CutPrefix(f, "-test.outputdir="); ok {
			output = v
		}
	}
	for _, f := range argv[1:] {
		f, ok := strings.CutPrefix(f, "-test.")
		if !ok {
			continue
		}
		name, value, _ := strings.Cut(f, "=")
		switch {
		case name == "artifacts" && value != "false": // they go into the output directory
			add(output)
		case value == "":
		case slices.Contains(testFiles, name) && filepath.IsAbs(value):
			add(filepath.Dir(value))
		case slices.Contains(testFiles, name):
			add(filepath.Dir(filepath.Join(output, value)))
		case slices.Contains(testDirs, name):
			add(value)
		}
	}
	return dirs
}
