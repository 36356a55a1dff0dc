package limits

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"offmap/internal/process/pdeathsig"
)

// Command is the hidden command of offmap that runs a check's child. A test binary
// must call ChildMain for it as well.
const Command = "limits-child"

// tasks are what children do, by name. A task reports each result at once, since it
// may die before its end. It runs on the process's main thread. Its parent closes
// os.Stdin when it should end.
func tasks() map[string]func(say func(any) error, args []string) error {
	return map[string]func(func(any) error, []string) error{
		"memlock":  memlockTask,
		"hold":     holdTask,
		"mlockall": mlockallTask,
		"receive":  receiveTask,
		"plant":    plantTask,
	}
}

// The child's descriptors behind the standard ones.
const (
	sayFD   = 3 // a pipe to the parent
	extraFD = 4 // an argument of the task
)

// message is a report through the pipe.
type message struct {
	Value   json.RawMessage `json:"value,omitempty"`
	Error   string          `json:"error,omitempty"`
	Skipped string          `json:"skipped,omitempty"`
}

// ChildMain runs the task args[0] with the arguments args[1:], and returns the exit
// code.
func ChildMain(args []string) int {
	// Capabilities are a thread's.
	runtime.LockOSThread()
	if len(args) == 0 || tasks()[args[0]] == nil {
		fmt.Fprintf(os.Stderr, "offmap: %s is for offmap's own use\n", Command)
		return 2
	}
	out := json.NewEncoder(os.NewFile(sayFD, "pipe"))
	say := func(v any) error {
		raw, err := json.Marshal(v)
		if err != nil {
			return err
		}
		return out.Encode(message{Value: raw})
	}
	err := tasks()[args[0]](say, args[1:])
	lacks, ok := errors.AsType[*skip](err)
	switch {
	case ok:
		out.Encode(message{Skipped: lacks.why})
	case err != nil:
		out.Encode(message{Error: err.Error()})
	}
	return 0
}

// child is a running child.
type child struct {
	task   string
	cmd    *exec.Cmd
	stdin  io.Closer
	said   *os.File
	in     *json.Decoder
	stderr bytes.Buffer
}

// startChild starts a task. change, if not nil, changes its command first.
func startChild(ctx context.Context, change func(*exec.Cmd), task string, args ...string) (*child, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pipe to a child: %w", err)
	}
	defer w.Close()
	c := &child{task: task, said: r, in: json.NewDecoder(r)}
	// Another user may not reach the program by its path.
	c.cmd = exec.CommandContext(ctx, "/proc/self/exe")
	c.cmd.Args = append([]string{os.Args[0], Command, task}, args...)
	c.cmd.ExtraFiles = []*os.File{w}
	c.cmd.Stderr = &c.stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{}
	if change != nil {
		change(c.cmd)
	}
	if c.stdin, err = c.cmd.StdinPipe(); err == nil {
		err = pdeathsig.Start(c.cmd)
	}
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("start a child for %s: %w", task, err)
	}
	return c, nil
}

// next waits for the child's next report. io.EOF is the end of the child.
func (c *child) next(v any) error {
	var m message
	if err := c.in.Decode(&m); err != nil {
		return err
	}
	switch {
	case m.Skipped != "":
		return skipped("%s", m.Skipped)
	case m.Error != "":
		return errors.New(m.Error)
	}
	return json.Unmarshal(m.Value, v)
}

// end tells the child to end, and waits until it has.
func (c *child) end() syscall.WaitStatus {
	c.stdin.Close()
	c.said.Close()
	c.cmd.Wait() // the state says it all
	status, _ := c.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return status
}

// ask runs a task that makes one report, and returns how the child ended.
func ask(ctx context.Context, change func(*exec.Cmd), v any, task string, args ...string) (syscall.WaitStatus, error) {
	c, err := startChild(ctx, change, task, args...)
	if err != nil {
		return 0, err
	}
	err = c.next(v)
	// Wait for its end: after the report it may do something that kills it.
	if err == nil {
		c.stdin.Close()
		var none struct{}
		if more := c.next(&none); !errors.Is(more, io.EOF) {
			err = more
		}
	}
	status := c.end()
	if errors.Is(err, io.EOF) || err == nil && ctx.Err() != nil {
		err = fmt.Errorf("the child for %s ended with %s and said nothing: %s", task, describe(status), bytes.TrimSpace(c.stderr.Bytes()))
	}
	return status, err
}

// describe names how a process ended.
func describe(s syscall.WaitStatus) string {
	if s.Signaled() {
		return unix.SignalName(s.Signal())
	}
	return fmt.Sprintf("exit code %d", s.ExitStatus())
}

// untilTold waits until the parent wants the task to end.
func untilTold() { io.Copy(io.Discard, os.Stdin) }
