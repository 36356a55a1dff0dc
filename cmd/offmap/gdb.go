package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"offmap/internal/process/exitcode"
	"offmap/vmm"
	"offmap/vmm/gdb"
)

// gdbFlags say where GDB connects.
type gdbFlags struct {
	addr string
}

func (f *gdbFlags) add(fl *pflag.FlagSet) {
	fl.StringVar(&f.addr, "gdb", "", "let GDB debug the guest, which waits for it, at `ADDR`: [HOST]:PORT on the loopback\ninterface, the path of a unix socket, or - for standard input and output")
}

// stdio reports whether standard input and output are GDB's.
func (f gdbFlags) stdio() bool { return f.addr == "-" }

// open checks the flag and listens. It returns nil without the flag. json and live say
// whether something else has standard output.
func (f gdbFlags) open(ctx context.Context, json, live bool) (*debugging, error) {
	switch {
	case f.addr == "":
		return nil, nil
	case f.stdio() && (json || live):
		return nil, usage("--gdb - has standard output to itself: without --live, and with --report FILE in place of --json")
	case f.stdio() && term.IsTerminal(int(os.Stdin.Fd())):
		return nil, usage("--gdb - is for GDB, which starts this program (target remote | offmap run --gdb - ...): standard input is a terminal")
	case f.stdio():
		return &debugging{}, nil
	}
	a, err := gdb.ParseAddress(f.addr)
	if err != nil {
		return nil, exitWith(exitcode.Usage, fmt.Errorf("--gdb: %w", err))
	}
	s, err := gdb.Listen(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("--gdb: %w", err)
	}
	if !a.Private() {
		slog.Warn(fmt.Sprintf("every user of this host can connect to %s and read the guest's RAM: a unix socket keeps others out", s.Addr()))
	}
	return &debugging{server: s}, nil
}

// debugging serves GDB. Its methods do nothing on nil.
type debugging struct {
	server *gdb.Server   // nil: standard input and output
	done   chan struct{} // closed when those are no longer served; nil before start
}

// start has the guest wait for GDB. It is called before the guest runs.
func (d *debugging) start(m *vmm.Machine) error {
	if d == nil {
		return nil
	}
	target, err := m.Debug()
	if err != nil {
		return fmt.Errorf("--gdb: %w", err)
	}
	if d.server != nil {
		d.server.Start(target, warn)
		slog.Log(context.Background(), levelNotice, fmt.Sprintf("the guest waits for gdb: target remote %s", d.server.Addr()))
		return nil
	}
	d.done = make(chan struct{})
	go func() {
		defer close(d.done)
		err := gdb.Serve(struct {
			io.Reader
			io.Writer
		}{os.Stdin, os.Stdout}, target)
		if err != nil {
			warn(fmt.Errorf("gdb: %w", err))
		}
	}()
	return nil
}

// close ends it when the guest has ended.
func (d *debugging) close() {
	switch {
	case d == nil:
	case d.server != nil:
		if err := d.server.Close(); err != nil {
			slog.Debug(err.Error())
		}
	case d.done != nil:
		select {
		case <-d.done:
		case <-time.After(outputPatience): // GDB doesn't read
		}
	}
}
