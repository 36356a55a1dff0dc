package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// hostFile is a file or directory of the host that a flag names.
type hostFile struct {
	flag     string      // with its value, for errors
	path     string      // absolute, without symbolic links
	info     os.FileInfo // nil if there is none yet
	writable bool        // by the guest
}

// findFile finds a file that is there.
func findFile(flag, path string, writable bool) (f hostFile, err error) {
	f = hostFile{flag: flag + " " + path, writable: writable}
	if f.path, err = filepath.Abs(path); err == nil {
		f.path, err = filepath.EvalSymlinks(f.path)
	}
	if err == nil {
		f.info, err = os.Stat(f.path)
	}
	return f, err
}

// findOutput finds a file that this program writes, and may have to make. checkTarget
// has found its directory.
func findOutput(flag, path string) (hostFile, error) {
	if f, err := findFile(flag, path, false); err == nil {
		return f, nil
	}
	dir, err := findFile(flag, filepath.Dir(path), false)
	return hostFile{flag: flag + " " + path, path: filepath.Join(dir.path, filepath.Base(path))}, err
}

// inside reports whether f is the directory dir, or in it.
func (f hostFile) inside(dir hostFile) bool {
	return f.path == dir.path || strings.HasPrefix(f.path, strings.TrimSuffix(dir.path, "/")+"/")
}

// same reports whether two files are one.
func (f hostFile) same(other hostFile) bool {
	return f.info != nil && other.info != nil && os.SameFile(f.info, other.info)
}

// checkFiles returns an error if the guest could harm what this program itself opens
// and writes, or could write to a file in two ways. outputs are the files that this
// program writes when the guest runs, or afterwards, by the flags that name them.
// checkFiles replaces their paths by ones without symbolic links.
//
// A guest can put anything in a writable share, a symbolic link too, and at any time.
// So no other share, no disk and no output may be in there.
func (f *deviceFlags) checkFiles(outputs map[string]*string) error {
	var shares, disks, written []hostFile
	for i := range f.shares.values {
		v := &f.shares.values[i]
		dir, err := findFile(cmp.Or(v.flag, "--share"), v.dir, v.writable)
		if err != nil {
			return fmt.Errorf("share: %w", err)
		}
		if !dir.info.IsDir() {
			return fmt.Errorf("share: %s: not a directory (--disk is for images)", v.dir)
		}
		shares = append(shares, dir)
	}
	for _, v := range f.disks.values {
		// An image that isn't there is blk.Open's to report.
		if file, err := findFile("--disk", v.file, !v.readOnly && !v.overlay); err == nil {
			disks = append(disks, file)
		}
	}
	for flag, path := range outputs {
		if *path == "" {
			continue
		}
		file, err := findOutput(flag, *path)
		if err != nil {
			return fmt.Errorf("%s: %w", file.flag, err)
		}
		written = append(written, file)
		*path = file.path
	}
	if err := checkDisks(disks, written); err != nil {
		return err
	}
	return checkShares(shares, disks, written)
}

// checkDisks returns an error for an image that the guest has twice and can write, and
// for one that an output would replace.
func checkDisks(disks, written []hostFile) error {
	for i, d := range disks {
		for _, other := range disks[:i] {
			if d.same(other) && (d.writable || other.writable) {
				return usage("%s and %s are one file: a guest can have it twice only if it can't write to it (,ro or ,overlay)", other.flag, d.flag)
			}
		}
		for _, w := range written {
			if w.same(d) {
				return usage("%s would replace the image of %s", w.flag, d.flag)
			}
		}
	}
	return nil
}

// checkShares returns an error for whatever is inside a writable share.
func checkShares(shares, disks, written []hostFile) error {
	for i, share := range shares {
		if !share.writable {
			continue
		}
		others := append(append(append([]hostFile(nil), shares[:i]...), shares[i+1:]...), disks...)
		for _, other := range append(others, written...) {
			if other.inside(share) {
				return usage("%s is inside %s, where the guest can write: it could replace it. Use another place, or let it only read", other.flag, share.flag)
			}
		}
	}
	return nil
}
