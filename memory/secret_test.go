package memory

import (
	"errors"
	"io/fs"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"

	"offmap/internal/process/sandbox"
)

// unreadable is a sysfs whose files are root's alone.
type unreadable struct{}

func (unreadable) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
}

// TestSecretError tells the refusals of memfd_secret apart.
func TestSecretError(t *testing.T) {
	sysfs := func(enable string) fs.FS {
		sys := fstest.MapFS{"kernel/x": &fstest.MapFile{}}
		if enable != "" {
			sys["module/secretmem/parameters/enable"] = &fstest.MapFile{Data: []byte(enable + "\n")}
		}
		return sys
	}
	for _, c := range []struct {
		name     string
		sys      fs.FS
		filtered bool
		errno    unix.Errno
		want     error
		refused  bool
	}{
		{"switched off", sysfs("N"), true, unix.ENOSYS, ErrSecretDisabled, false},
		{"absent", sysfs(""), true, unix.ENOSYS, ErrSecretAbsent, false},
		{"no sysfs", fstest.MapFS{}, false, unix.ENOSYS, ErrUnavailable, false},
		{"switched off, and only root can know", unreadable{}, false, unix.ENOSYS, ErrSecretDisabled, false},
		{"only root can know, and a filter", unreadable{}, true, unix.ENOSYS, ErrUnavailable, false},
		{"refused with ENOSYS", sysfs("Y"), true, unix.ENOSYS, unix.ENOSYS, true},
		{"refused with EPERM", sysfs("Y"), true, unix.EPERM, unix.EPERM, true},
		{"refused with EPERM, and switched off", sysfs("N"), false, unix.EPERM, unix.EPERM, true},
		{"refused with EACCES, and absent", sysfs(""), false, unix.EACCES, unix.EACCES, true},
	} {
		err := secretError(c.sys, c.filtered, c.errno)
		if !errors.Is(err, c.want) || sandbox.Refused(err) != c.refused || !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if err := secretError(sysfs("Y"), false, unix.EMFILE); !errors.Is(err, unix.EMFILE) || errors.Is(err, ErrUnavailable) {
		t.Errorf("no descriptors left: %v", err)
	}
}
