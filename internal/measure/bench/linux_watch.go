package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"offmap/guest/protocol"
	"offmap/internal/process/pdeathsig"
)

// linuxTimes is the result of a boot.
type linuxTimes struct {
	userland time.Duration // from the start of the process
	cpu      time.Duration // of the process, until userland
	resident float64       // bytes without guest RAM, at that time; NaN if unknown
	writes   time.Duration // for all port writes, by the guest's clock
}

// boot starts the VMM and reads its guest's console until the guest has made that
// many port writes. The process has ended when boot returns.
func (v vmmProgram) boot(ctx context.Context, writes int) (linuxTimes, error) {
	var said tail
	cmd := pdeathsig.Command(ctx, v.path)
	cmd.Args = v.args
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return linuxTimes{}, err
	}
	w := watch{start: time.Now(), console: bufio.NewReader(out), want: writes, said: &said}
	if err := pdeathsig.Start(cmd); err != nil {
		return linuxTimes{}, fmt.Errorf("%w: %w", ErrCannot, err)
	}
	w.pid = cmd.Process.Pid
	err = w.run()
	switch {
	case errors.Is(err, io.EOF): // it is ending by itself
	case err == nil && v.own:
		io.Copy(io.Discard, out)
	default:
		cmd.Process.Kill()
	}
	ended := cmd.Wait()
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return linuxTimes{}, context.Cause(ctx)
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case errors.Is(err, io.EOF) && v.cannot != 0 && cmd.ProcessState.ExitCode() == v.cannot:
		return linuxTimes{}, fmt.Errorf("%w: %s%s", ErrCannot, v.args[0], said.quote())
	case errors.Is(err, io.EOF):
		err = fmt.Errorf("it ended before its guest was done, %v", cmd.ProcessState)
	case err == nil && v.own:
		err = ended
	}
	if err != nil {
		err = fmt.Errorf("%s: %w%s", v.args[0], err, said.quote())
	}
	if err != nil && !v.own {
		err = fmt.Errorf("%w: %w", ErrLost, err)
	}
	return w.linuxTimes, err
}

// watch reads a guest's console, whose contents aren't trusted.
type watch struct {
	linuxTimes
	start   time.Time
	pid     int
	console *bufio.Reader
	want    int // port writes
	said    *tail
}

// run reads to the end of the port writes. It returns io.EOF if the console ends
// before that.
func (w *watch) run() (err error) {
	now, err := w.await(protocol.UserlandLine)
	if err != nil {
		return err
	}
	w.userland = now.Sub(w.start)
	// Not later: on one CPU, the time to read this would count as time of the
	// port writes.
	if w.cpu, err = cpuTime(w.pid); err != nil {
		return err
	}
	w.resident = resident(w.pid, linuxMemory)
	from, err := w.await(protocol.ExitsStart(w.want))
	if err != nil {
		return err
	}
	for {
		line, err := w.line()
		if err != nil {
			return err
		}
		if n, took, ok := protocol.ParseExitsLine(line); ok {
			if n != w.want {
				return fmt.Errorf("the guest has written to the port %d times, not %d", n, w.want)
			}
			w.writes = took
			return checkClock(took, time.Since(from))
		}
	}
}

// await reads until a line is exactly text. It returns the time of that.
func (w *watch) await(text string) (time.Time, error) {
	for {
		line, err := w.line()
		if err != nil || line == text {
			return time.Now(), err
		}
	}
}

// line reads a line, or a part of one that is longer than the buffer.
func (w *watch) line() (string, error) {
	piece, _, err := w.console.ReadLine()
	line := strings.TrimRight(string(piece), "\r")
	io.WriteString(w.said, line+"\n")
	return line, err
}

// checkClock returns an error if a time by the guest's clock differs too much from
// that by the host's, which includes the output of a line on a slow console.
func checkClock(guest, host time.Duration) error {
	const console = 100 * time.Millisecond
	if off := (guest - host).Abs(); off > console+host/5 {
		return fmt.Errorf("the guest's clock is wrong: %v on it, and %v on the host's", guest, host)
	}
	return nil
}

// tail is a writer that keeps the end of what is written.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// tailSize is enough for an error, and for a guest's last lines.
const tailSize = 1024

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-tailSize):]
	return len(p), nil
}

// quote returns the text for the end of an error, with control characters escaped,
// or "" if there is none.
func (t *tail) quote() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := strings.TrimSpace(string(t.text)); s != "" {
		return fmt.Sprintf(": %q", s)
	}
	return ""
}
