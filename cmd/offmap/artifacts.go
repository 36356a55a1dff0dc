package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"offmap/guest/agent"
)

// The names in the directory of --artifacts. The guest writes into its own directory, and
// can put anything there at any time, links too. So this program writes beside it.
const (
	guestDir      = "guest"
	kernelLogFile = "dmesg.txt"
)

// artifactsTag is the tag of the guest's directory.
const artifactsTag = "artifacts"

// kernelLog is the file for the guest kernel's log if the command fails, or "".
func (f *execFlags) kernelLog() string {
	if f.artifacts == "" {
		return ""
	}
	return filepath.Join(f.artifacts, kernelLogFile)
}

// addArtifacts makes the directory of --artifacts, and adds the guest's to its shares. A
// log of an earlier run goes, so that it isn't taken for this one's.
func (f *execFlags) addArtifacts(spec *agent.Spec) error {
	if f.artifacts == "" {
		return nil
	}
	dir := filepath.Join(f.artifacts, guestDir)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("--artifacts: %w", err)
	}
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return fmt.Errorf("--artifacts: %w", err)
	}
	if err := os.Remove(f.kernelLog()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--artifacts: %w", err)
	}
	spec.Artifacts = artifactsTag
	f.devices.shares.values = append(f.devices.shares.values, shareValue{dir: dir, tag: artifactsTag, writable: true, flag: "--artifacts"})
	return nil
}
