package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// procFD opens the VMM's files again, by their links in /proc.
var procFD = Avenue{
	Name: "proc-fd", Attack: attackProcFD,
	About: "opens the VMM's files and mappings again, /proc/PID/fd and map_files, maps and searches them",
}

func attackProcFD(ctx context.Context, t Target) (Finding, error) {
	files, err := t.openFiles()
	if err != nil {
		return Finding{}, err
	}
	l := loot{target: t}
	for _, f := range files {
		if err := l.reopen(ctx, f.name, fmt.Sprintf("/proc/%d/fd/%d", t.PID, f.fd)); err != nil {
			return l.finding(err)
		}
	}
	areas, err := t.areas()
	if err != nil {
		return l.finding(err)
	}
	for _, a := range areas {
		path := fmt.Sprintf("/proc/%d/map_files/%x-%x", t.PID, a.Start, a.End)
		if err := l.reopen(ctx, a.Path, path); err != nil {
			return l.finding(err)
		}
	}
	return l.finding(nil)
}

// reopen opens one of the links and searches the file, if it is memory. Opening a
// device, a terminal or a pipe has effects.
func (l *loot) reopen(ctx context.Context, name, link string) error {
	l.memory = l.memory || isMemory(name)
	st, err := os.Stat(link)
	switch {
	case errors.Is(err, fs.ErrNotExist): // closed meanwhile, or not a file's
		return nil
	case errors.Is(err, fs.ErrPermission):
		l.found.refused(err)
		return nil
	case err != nil:
		return err
	case !st.Mode().IsRegular() || st.Size() == 0:
		return nil
	}
	fd, err := unix.Open(link, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		l.found.refused(err)
		l.denied = append(l.denied, fmt.Sprintf("%s (open: %s)", name, unix.ErrnoName(err.(unix.Errno))))
		return nil
	}
	defer unix.Close(fd)
	return l.search(ctx, name, fd)
}
