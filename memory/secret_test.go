package memory

import (
	"errors"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"

	"offmap/sandbox"
)

// TestSecretError tells the refusals of memfd_secret apart.
func TestSecretError(t *testing.T) {
	sysfs := func(enable string) fstest.MapFS {
		fs := fstest.MapFS{"kernel/x": &fstest.MapFile{}}
		if enable != "" {
			fs["module/secretmem/parameters/enable"] = &fstest.MapFile{Data: []byte(enable + "\n")}
		}
		return fs
	}
	for _, c := range []struct {
		name    string
		sys     fstest.MapFS
		errno   unix.Errno
		want    error
		refused bool
	}{
		{"switched off", sysfs("N"), unix.ENOSYS, ErrSecretDisabled, false},
		{"absent", sysfs(""), unix.ENOSYS, ErrSecretAbsent, false},
		{"no sysfs", fstest.MapFS{}, unix.ENOSYS, errSecretUnknown, false},
		{"refused with ENOSYS", sysfs("Y"), unix.ENOSYS, unix.ENOSYS, true},
		{"refused with EPERM", sysfs("Y"), unix.EPERM, unix.EPERM, true},
		{"refused with EPERM, and switched off", sysfs("N"), unix.EPERM, unix.EPERM, true},
		{"refused with EACCES, and absent", sysfs(""), unix.EACCES, unix.EACCES, true},
	} {
		err := secretError(c.sys, c.errno)
		if !errors.Is(err, c.want) || sandbox.Refused(err) != c.refused || !Unavailable(err) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if err := secretError(sysfs("Y"), unix.EMFILE); !errors.Is(err, unix.EMFILE) || Unavailable(err) {
		t.Errorf("no descriptors left: %v", err)
	}
}
