// Package matrix has the results of one command in several guests, as offmap exec runs
// it: its JSON document and its JUnit file.
package matrix

import (
	"fmt"
	"io"
	"syscall"

	"golang.org/x/sys/unix"

	"offmap/internal/jsondoc"
	"offmap/internal/measure/guestrun"
	"offmap/internal/measure/probe"
	"offmap/internal/process/exitcode"
	"offmap/memory"
	"offmap/vmm"
)

// Schema is that of the document.
const Schema = "offmap/exec/v1"

// Document is what offmap exec prints with --json.
type Document struct {
	Schema   string     `json:"schema"`
	Host     probe.Host `json:"host"`
	Command  []string   `json:"command"`
	Duration float64    `json:"duration_ms"`
	Cells    []Cell     `json:"cells"` // in the order of the flags
}

// Cell is the command's run in one guest.
type Cell struct {
	Name    string         `json:"name"`
	Kernel  string         `json:"kernel"` // as --kernel names it
	Backend memory.Backend `json:"backend"`
	CPUs    int            `json:"cpus"`
	Result  Result         `json:"result"`
	// Code is the exit code of the cell's own offmap exec.
	Code     int     `json:"code"`
	Detail   string  `json:"detail,omitempty"`
	Duration float64 `json:"duration_ms"`
	// Run is the report of the cell's guest. It is null if there is none.
	Run *guestrun.Document `json:"run"`

	// The ends of what the command and its offmap exec wrote, for JUnit.
	Stdout, Stderr string `json:"-"`
}

// Result is how a cell ended.
type Result string

// The results. Exit and Signal are the command's own.
const (
	OK      Result = "ok"      // exit code 0
	Exit    Result = "exit"    // another exit code
	Signal  Result = "signal"  // exit code 128+n, as a shell has it for signal n
	Panic   Result = "panic"   // the guest's kernel panicked
	Crash   Result = "crash"   // the guest can't go on, such as after a triple fault
	Reset   Result = "reset"   // the guest reset itself
	Timeout Result = "timeout" // --timeout was over
	Cannot  Result = "cannot"  // this host lacks something
	Failed  Result = "failed"  // offmap exec itself failed
	Stopped Result = "stopped" // a signal ended offmap exec
	NotRun  Result = "not-run" // a signal came before it was this cell's turn
)

// Read reads a document of offmap exec.
func Read(r io.Reader) (*Document, error) {
	d := &Document{}
	return d, jsondoc.Read(r, Schema, d)
}

// OK reports whether the command succeeded in every cell.
func (d *Document) OK() bool { return d.count(func(r Result) bool { return r != OK }) == 0 }

func (d *Document) count(f func(Result) bool) (n int) {
	for _, c := range d.Cells {
		if f(c.Result) {
			n++
		}
	}
	return n
}

// End is how the process of a cell ended.
type End struct {
	Code   int            // its exit code, or 128+n if signal n ended it
	Killed syscall.Signal // the signal that ended it, or 0
	Run    *guestrun.Document
	Said   string // its last message, or ""
	Asked  bool   // a signal was sent to it
}

// Ended fills in the result of a cell.
func (c *Cell) Ended(e End) {
	c.Code, c.Run, c.Detail = e.Code, e.Run, e.Said
	byGuest := e.Run != nil && e.Run.Exit.Reason == vmm.PowerOff && e.Killed == 0
	if e.Run != nil && e.Run.Exit.Detail != "" {
		c.Detail = e.Run.Exit.Detail
	}
	switch {
	case byGuest && e.Code == 0:
		c.Result, c.Detail = OK, ""
	case byGuest && signalName(e.Code) != "":
		c.Result, c.Detail = Signal, ""
	case byGuest:
		c.Result = Exit
		if e.Code != 126 && e.Code != 127 { // offmap says why
			c.Detail = ""
		}
	case e.Asked:
		c.Result = Stopped
	case e.Killed != 0:
		c.Result, c.Detail = Failed, "offmap exec was killed: "+e.Killed.String()
	case e.Code == exitcode.Panic:
		c.Result = Panic
	case e.Code == exitcode.Crash:
		c.Result = Crash
	case e.Code == exitcode.Reset:
		c.Result = Reset
	case e.Code == exitcode.Timeout:
		c.Result = Timeout
	case e.Code == exitcode.Cannot:
		c.Result = Cannot
	default:
		c.Result = Failed
		if c.Detail == "" {
			c.Detail = fmt.Sprintf("offmap exec ended with exit code %d", e.Code)
		}
	}
}

// signalName is the name of the signal that an exit code stands for, or "".
func signalName(code int) string { return unix.SignalName(syscall.Signal(code - exitcode.Signal)) }

// Text says how the cell ended, in words.
func (c *Cell) Text() string {
	what := map[Result]string{
		OK: "ok", Exit: fmt.Sprintf("exit code %d", c.Code), Signal: signalName(c.Code),
		Panic: "kernel panic", Crash: "guest crash", Reset: "guest reset", Timeout: "timeout",
		Cannot: "can't run", Failed: "failed", Stopped: "stopped", NotRun: "not run",
	}[c.Result]
	if c.Detail != "" {
		what += ": " + c.Detail
	}
	return what
}
