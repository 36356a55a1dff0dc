package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"offmap/internal/process/exitcode"
)

// Exit codes for a program that can't be started, as shells have them.
const (
	notExecutable = 126
	notFound      = 127
)

// Run runs a program until it ends, relays its standard streams and the signals that
// come for it, and returns how that went. It is for process 1: it reaps every child,
// kills those that the program leaves behind, and powers the machine off if the host
// is gone.
func Run(c Command, conn *Conn) Report {
	fail := func(code int, err error) Report { return Report{Code: code, Failure: err.Error()} }
	if c.Umask != nil {
		unix.Umask(*c.Umask)
	}
	// Not os.ProcAttr.Dir: between fork and exec the runtime can't stop this
	// thread, so a garbage collection would wait for the child's chdir, the
	// chdir for an answer through /dev/fuse, and that for the collection.
	if err := os.Chdir(c.Dir); err != nil {
		return fail(notExecutable, err)
	}
	path := c.Path
	if path == "" {
		var err error
		if path, err = lookPath(c.Argv[0], c.Env); err != nil {
			return fail(startCode(err), err)
		}
	}
	s, err := openStreams(c)
	if err != nil {
		return fail(exitcode.Error, err)
	}
	if u := c.User; u != nil {
		s.attr.Credential = &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups}
	}
	if err := conn.Send(Ready, nil); err != nil {
		return fail(exitcode.Error, err)
	}
	proc, err := os.StartProcess(path, c.Argv, &os.ProcAttr{
		Env: c.Env, Files: s.program[:], Sys: s.attr,
	})
	s.closeProgram()
	if err != nil {
		return fail(startCode(err), fmt.Errorf("start %s: %w", path, cause(err)))
	}
	pid := proc.Pid
	proc.Release() // reap waits for it

	go receive(conn, s, pid)
	var outputs sync.WaitGroup
	outputs.Go(func() { relay(conn, Stdout, s.out) })
	if s.err != nil {
		outputs.Go(func() { relay(conn, Stderr, s.err) })
	}
	status := reap(pid)
	conn.Send(Ended, nil)
	// What it left behind holds its streams, files and modules.
	syscall.Kill(-1, syscall.SIGKILL)
	reap(0)
	outputs.Wait()
	if status.Signaled() {
		return Report{Code: exitcode.Signal + int(status.Signal())}
	}
	return Report{Code: status.ExitStatus()}
}

// startCode is the exit code for a program that can't be started.
func startCode(err error) int {
	if errors.Is(err, fs.ErrNotExist) {
		return notFound
	}
	return notExecutable
}

// cause is an error of a system call without its name and path.
func cause(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// lookPath finds a program as a shell does: a name with a slash is its path, any other
// is looked for in the directories of PATH.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	dirs := ""
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			dirs = v
		}
	}
	found := error(fs.ErrNotExist)
	for _, dir := range filepath.SplitList(dirs) {
		path := filepath.Join(dir, name)
		if dir == "" {
			path = "./" + name // POSIX: an empty entry is the current directory
		}
		switch info, err := os.Stat(path); {
		case err != nil || info.IsDir():
		case info.Mode()&0o111 == 0:
			found = fs.ErrPermission
		default:
			return path, nil
		}
	}
	if found == fs.ErrPermission {
		return "", fmt.Errorf("%s: found in PATH, but not executable: %w", name, found)
	}
	return "", fmt.Errorf("%s: not found in PATH (%s): %w", name, dirs, found)
}

// reap waits for every child that ends, as process 1 must, until pid has;
// with pid 0, until there is none left.
func reap(pid int) syscall.WaitStatus {
	for {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return status // ECHILD
		case got == pid:
			return status
		}
	}
}

// relay sends what comes from f until its end: of a pipe EOF, of a terminal
// EIO, once nobody has it open any more.
func relay(conn *Conn, k Kind, f *os.File) {
	buf := make([]byte, MaxPayload)
	for {
		n, err := f.Read(buf)
		if n > 0 && conn.Send(k, buf[:n]) != nil {
			return
		}
		if err != nil {
			return
		}
	}
}

// receive passes on what the host sends. If the host is gone there is nobody
// left to run anything for.
func receive(conn *Conn, s *streams, pid int) {
	// Input is written by a goroutine of its own, so that a program that
	// doesn't read it can still be sent a signal. The host waits for
	// StdinDone, so one frame is all that there is to hold.
	input := make(chan []byte, 1)
	go func() {
		for data := range input {
			if len(data) == 0 {
				s.closeInput()
				continue
			}
			s.in.Write(data) // EPIPE: it doesn't read any more
			conn.Send(StdinDone, nil)
		}
	}()
	for {
		k, payload, err := conn.Receive()
		if err != nil {
			unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
			return
		}
		switch k {
		case Beat:
		case Stdin:
			input <- payload
		case Signal:
			if len(payload) == 1 {
				syscall.Kill(-pid, syscall.Signal(payload[0]))
			}
		case Resize:
			var t Terminal
			if json.Unmarshal(payload, &t) == nil {
				s.resize(t.Rows, t.Cols)
			}
		}
	}
}
