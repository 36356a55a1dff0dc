// Package gdb lets GDB debug a guest: the server's side of GDB's remote serial protocol
// (GDB manual, appendix E), for one client at a time. A guest's vCPUs are the client's
// threads, numbered from 1, and they all stop when one does (all-stop mode).
//
// Addresses are linear, as the page tables of the vCPU that the client has chosen have
// them. What a client sends is checked as what a guest sends is: a packet has a bounded
// length, and no packet panics.
package gdb

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"offmap/kvm"
	"offmap/vmm"
)

// Target is the guest. vmm.Debugger implements it, and says what the methods do.
type Target interface {
	CPUs() int
	Attach()
	Detach() error
	Kill()
	Stops() <-chan vmm.Stop
	Ended() <-chan struct{}
	Outcome() vmm.Outcome
	Interrupt()
	Resume([]vmm.Action) error
	Registers(cpu int) (kvm.Regs, kvm.SRegs, error)
	SetRegisters(cpu int, r kvm.Regs) error
	SetBases(cpu int, fs, gs uint64) error
	State(cpu int) (kvm.MPState, error)
	ReadAt(cpu int, p []byte, addr uint64) (int, error)
	WriteAt(cpu int, p []byte, addr uint64) (int, error)
	Insert(cpu int, b vmm.Breakpoint) error
	Remove(b vmm.Breakpoint) error
}

var _ Target = (*vmm.Debugger)(nil)

// session is a client.
type session struct {
	target Target
	w      io.Writer
	noAck  bool
	// The client takes these reasons in a stop's reply.
	swbreak, hwbreak bool

	running bool
	last    string // the last stop's reply
	cpu     int    // chosen by Hg, for registers and memory
	resume  int    // chosen by Hc, for c and s; all for any
	out     []byte // the reply
}

// all stands for all vCPUs.
const all = -1

// Serve stops the guest, and does what the client says until it detaches or leaves.
// The guest then goes on. If the guest ends, the client is told, and Serve returns.
//
// Serve reads from conn in a goroutine, which ends when conn is closed.
func Serve(conn io.ReadWriter, t Target) error {
	s := &session{target: t, w: conn, resume: all, running: true}
	done := make(chan struct{})
	defer close(done)
	messages, failed := make(chan message), make(chan error, 1)
	go func() {
		r := bufio.NewReader(conn)
		for {
			m, err := read(r)
			if err != nil {
				failed <- err
				return
			}
			select {
			case messages <- m:
			case <-done:
				return
			}
		}
	}()
	t.Attach()
	err := s.first(failed)
	for err == nil {
		err = s.next(messages, failed)
	}
	if errors.Is(err, errOver) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, t.Detach())
}

// errOver ends a session without a Detach.
var errOver = errors.New("the session is over")

// first waits for the first stop.
func (s *session) first(failed <-chan error) error {
	select {
	case stop := <-s.target.Stops():
		s.stopped(stop)
		s.last = "T05" + s.last[len("T05"):]
		return nil
	case <-s.target.Ended():
		return errOver
	case err := <-failed:
		return err
	}
}

// next waits for what is next: a message of the client, a stop, or the end.
func (s *session) next(messages <-chan message, failed <-chan error) error {
	select {
	case m := <-messages:
		return s.message(m)
	case stop := <-s.target.Stops():
		s.stopped(stop)
		return s.reply(s.last)
	case <-s.target.Ended():
		// A client that waits for a reply takes this one too.
		return errors.Join(errOver, s.reply(ended(s.target.Outcome())))
	case err := <-failed:
		return err
	}
}

// ended is the reply for a guest that has ended.
func ended(o vmm.Outcome) string {
	switch o.Reason {
	case vmm.PowerOff, vmm.Halt:
		return fmt.Sprintf("W%02x", byte(o.Code))
	case vmm.Stopped:
		return "X09" // SIGKILL
	}
	return "X06" // SIGABRT
}

// stopped notes a stop.
func (s *session) stopped(stop vmm.Stop) {
	s.running = false
	s.cpu = stop.CPU
	signal, why := 5, "" // SIGTRAP
	switch stop.Reason {
	case vmm.Interrupted:
		signal = 2 // SIGINT
	case vmm.AtSoftware:
		if s.swbreak {
			why = "swbreak:;"
		}
	case vmm.AtHardware:
		if s.hwbreak {
			why = "hwbreak:;"
		}
	case vmm.AtWatch:
		kind := "watch"
		if stop.At.Kind == vmm.Access {
			kind = "awatch"
		}
		why = fmt.Sprintf("%s:%x;", kind, stop.At.Addr)
	}
	s.last = fmt.Sprintf("T%02xthread:%x;%s", signal, stop.CPU+1, why)
}

// message handles what the client has sent.
func (s *session) message(m message) error {
	switch {
	case m.interrupt:
		s.target.Interrupt()
		return nil
	case m.bad && s.noAck:
		return nil
	case m.bad:
		return s.write([]byte("-"))
	}
	if !s.noAck {
		if err := s.write([]byte("+")); err != nil {
			return err
		}
	}
	return s.command(string(m.data))
}

func (s *session) write(p []byte) error {
	_, err := s.w.Write(p)
	return err
}

// reply sends a packet of text that needs no escapes.
func (s *session) reply(text string) error { return s.send([]byte(text)) }

// send sends a packet. It keeps no copy of what it has sent: that may be guest memory.
func (s *session) send(data []byte) error {
	s.out = appendPacket(s.out[:0], data)
	defer clear(s.out[:cap(s.out)])
	clear(data)
	return s.write(s.out)
}
