// Package regular opens regular files, and no others.
package regular

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Open opens a regular file for reading. It looks at the file's type before it opens
// it: the open of a pipe waits, and that of a device can have an effect.
func Open(path string) (*os.File, os.FileInfo, error) {
	irregular := fmt.Errorf("%s: not a regular file", path)
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, nil, irregular
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // the file may have been replaced
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = irregular
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}
