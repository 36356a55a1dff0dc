package agent

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// streams are a program's standard streams: its ends and ours. With a
// terminal, ours are all the terminal's master.
type streams struct {
	program [3]*os.File
	in      *os.File // we write
	out     *os.File // we read
	err     *os.File // we read; nil if it is one with out
	attr    *syscall.SysProcAttr
}

func openStreams(c Command) (s *streams, err error) {
	if c.Terminal == nil {
		s, err = openPipes()
	} else {
		s, err = openTerminal(*c.Terminal)
	}
	if err != nil || c.User == nil {
		return s, err
	}
	// The program may open its streams once more by name, such as /dev/stdout.
	for _, f := range s.program {
		if err := f.Chown(int(c.User.UID), int(c.User.GID)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func openPipes() (_ *streams, err error) {
	// A group of its own, so that a signal reaches all of it and not us.
	s := &streams{attr: &syscall.SysProcAttr{Setpgid: true}}
	if s.program[0], s.in, err = os.Pipe(); err != nil {
		return nil, err
	}
	if s.out, s.program[1], err = os.Pipe(); err != nil {
		return nil, err
	}
	if s.err, s.program[2], err = os.Pipe(); err != nil {
		return nil, err
	}
	return s, nil
}

// OpenPTY opens a pseudoterminal's two ends (pts(4)).
func OpenPTY() (master, slave *os.File, err error) {
	if master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			master.Close()
		}
	}()
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, fmt.Errorf("unlock the terminal: %w", err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, nil, fmt.Errorf("the terminal's number: %w", err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	return master, slave, err
}

func openTerminal(t Terminal) (*streams, error) {
	master, slave, err := OpenPTY()
	if err != nil {
		return nil, err
	}
	s := &streams{
		program: [3]*os.File{slave, slave, slave}, in: master, out: master,
		attr: &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0},
	}
	s.resize(t.Rows, t.Cols)
	if t.StderrPipe {
		if s.err, s.program[2], err = os.Pipe(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// resize tells the terminal its size, in characters.
func (s *streams) resize(rows, cols uint16) error {
	return unix.IoctlSetWinsize(int(s.in.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
}

// closeProgram closes the program's ends, which it has by now.
func (s *streams) closeProgram() {
	for _, f := range s.program {
		f.Close() // a terminal three times, which is harmless
	}
}

// closeInput is the end of the program's input: on a terminal, its
// end-of-file character.
func (s *streams) closeInput() {
	if s.in != s.out {
		s.in.Close()
		return
	}
	s.in.Write([]byte{4})
}

// LinkStreams makes /dev/fd, /dev/stdin, /dev/stdout and /dev/stderr, as udev would.
func LinkStreams() error {
	for name, target := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0",
		"stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, "/dev/"+name); err != nil {
			return err
		}
	}
	return nil
}
