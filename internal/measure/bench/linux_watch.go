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

// linuxTimes is what a boot came to.
type linuxTimes struct {
	userland time.Duration // from the start of the process
	cpu      time.Duration // of the process until then
	resident float64       // bytes beside guest RAM then, NaN where nobody tells
	writes   time.Duration // that all port writes took, by the guest's clock
}

// boot starts the VMM and reads its guest's console until the guest has timed
// so many port writes. The process is gone when it returns.
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
	case errors.Is(err, io.EOF): // it ends, with a code of its own
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
		err = fmt.Errorf("it ended before its guest was through, %v", cmd.ProcessState)
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

// watch reads a console. What is on it is a guest's to choose.
type watch struct {
	linuxTimes
	start   time.Time
	pid     int
	console *bufio.Reader
	want    int // port writes
	said    *tail
}

// run reads to the end of the port writes; the console's end before that is
// io.EOF.
func (w *watch) run() (err error) {
	now, err := w.await(protocol.UserlandLine)
	if err != nil {
		return err
	}
	w.userland = now.Sub(w.start)
	// Not later: a look at a process takes time, which the port writes on one
	// CPU would be seen to take.
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

// await reads until a line is just text, and returns when that was.
func (w *watch) await(text string) (time.Time, error) {
	for {
		line, err := w.line()
		if err != nil || line == text {
			return time.Now(), err
		}
	}
}

// line reads a line. Of one that is longer than the buffer it is a piece.
func (w *watch) line() (string, error) {
	piece, _, err := w.console.ReadLine()
	line := strings.TrimRight(string(piece), "\r")
	io.WriteString(w.said, line+"\n")
	return line, err
}

// checkClock makes sure that what took so long by the guest's clock took about
// as long here, where it began and ended with a line on a slow console.
func checkClock(guest, host time.Duration) error {
	const console = 100 * time.Millisecond
	if off := (guest - host).Abs(); off > console+host/5 {
		return fmt.Errorf("the guest's clock is wrong: %v on it, and %v on the host's", guest, host)
	}
	return nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// tailSize is enough for an error and for the last lines before a guest died.
const tailSize = 1024

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-tailSize):]
	return len(p), nil
}

// quote is the text with what could steer a terminal escaped, for the end of
// an error; "" if there is none.
func (t *tail) quote() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := strings.TrimSpace(string(t.text)); s != "" {
		return fmt.Sprintf(": %q", s)
	}
	return ""
}
