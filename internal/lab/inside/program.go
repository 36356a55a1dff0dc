package inside

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"offmap/internal/lab/wire"
	"offmap/internal/process/exitcode"
)

// runProgram runs the program of spec, relays its standard streams and the
// signals that come for it, and returns its exit code.
func runProgram(spec wire.Spec, conn *wire.Conn) (int, error) {
	s, err := openStreams(spec)
	if err != nil {
		return 0, err
	}
	// Not os.ProcAttr.Dir: between fork and exec the runtime can't stop this
	// thread, so a garbage collection would wait for the child's chdir, the
	// chdir for an answer through /dev/fuse, and that for the collection.
	if err := os.Chdir(spec.Dir); err != nil {
		return 0, err
	}
	if err := conn.Send(wire.Ready, nil); err != nil {
		return 0, err
	}
	proc, err := os.StartProcess(spec.Path, spec.Argv, &os.ProcAttr{
		Env: spec.Env, Files: s.program[:], Sys: s.attr,
	})
	s.closeProgram()
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", spec.Path, err)
	}
	pid := proc.Pid
	proc.Release() // reap waits for it

	go receive(conn, s, pid)
	var outputs sync.WaitGroup
	outputs.Go(func() { relay(conn, wire.Stdout, s.out) })
	if s.err != nil {
		outputs.Go(func() { relay(conn, wire.Stderr, s.err) })
	}
	status := reap(pid)
	conn.Send(wire.Ended, nil)
	// What it left behind holds its streams and may hold offmap.ko.
	syscall.Kill(-1, syscall.SIGKILL)
	reap(0)
	outputs.Wait()
	if status.Signaled() {
		return exitcode.Signal + int(status.Signal()), nil
	}
	return status.ExitStatus(), nil
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
func relay(conn *wire.Conn, k wire.Kind, f *os.File) {
	buf := make([]byte, wire.MaxPayload)
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
func receive(conn *wire.Conn, s *streams, pid int) {
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
			conn.Send(wire.StdinDone, nil)
		}
	}()
	for {
		k, payload, err := conn.Receive()
		if err != nil {
			unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
			return
		}
		switch k {
		case wire.Beat:
		case wire.Stdin:
			input <- payload
		case wire.Signal:
			if len(payload) == 1 {
				syscall.Kill(-pid, syscall.Signal(payload[0]))
			}
		case wire.Resize:
			var t wire.Terminal
			if json.Unmarshal(payload, &t) == nil {
				s.resize(t.Rows, t.Cols)
			}
		}
	}
}
