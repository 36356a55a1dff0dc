package inside

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"offmap/internal/lab/wire"
)

// runProgram runs the program of spec, relays its standard streams and the
// signals that come for it, and returns its exit code.
func runProgram(spec wire.Spec, conn *wire.Conn) (int, error) {
	inR, inW, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	if err := conn.Send(wire.Ready, nil); err != nil {
		return 0, err
	}
	// Not os.ProcAttr.Dir: between fork and exec the runtime can't stop this
	// thread, so a garbage collection would wait for the child's chdir, the
	// chdir for an answer through /dev/fuse, and that for the collection.
	if err := os.Chdir(spec.Dir); err != nil {
		return 0, err
	}
	proc, err := os.StartProcess(spec.Argv[0], spec.Argv, &os.ProcAttr{
		Env:   spec.Env,
		Files: []*os.File{inR, outW, errW},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	inR.Close()
	outW.Close()
	errW.Close()
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", spec.Argv[0], err)
	}
	pid := proc.Pid
	proc.Release()

	go receive(conn, inW, pid)
	var outputs sync.WaitGroup
	outputs.Go(func() { relay(conn, wire.Stdout, outR) })
	outputs.Go(func() { relay(conn, wire.Stderr, errR) })

	status := reap(pid)
	// What it left behind holds its pipes and may hold offmap.ko.
	syscall.Kill(-1, syscall.SIGKILL)
	reap(0)
	outputs.Wait()
	if status.Signaled() {
		return 128 + int(status.Signal()), nil
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

// relay sends what comes from r until its end.
func relay(conn *wire.Conn, k wire.Kind, r io.Reader) {
	buf := make([]byte, wire.MaxPayload)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if conn.Send(k, buf[:n]) != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// receive passes on what the host sends. If the host is gone there is nobody
// left to run anything for.
func receive(conn *wire.Conn, stdin *os.File, pid int) {
	// One frame at a time, written by a goroutine of its own, so that a
	// program that doesn't read its input can still be sent a signal.
	input := make(chan []byte, 1)
	go func() {
		for data := range input {
			if len(data) == 0 {
				stdin.Close()
				return
			}
			stdin.Write(data) // EPIPE: it doesn't read any more
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
		case wire.Stdin:
			input <- payload
		case wire.Signal:
			if len(payload) == 1 {
				syscall.Kill(-pid, syscall.Signal(payload[0]))
			}
		}
	}
}
