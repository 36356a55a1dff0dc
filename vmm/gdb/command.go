package gdb

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"offmap/kvm"
	"offmap/vmm"
)

// errArgument is the error of a packet that can't be understood.
var errArgument = errors.New("wrong argument")

// Replies.
const (
	ok          = "OK"
	unsupported = "" // what the client then does without
)

// failed is the reply for an error. GDB shows the number only: EFAULT stands for
// memory, EINVAL for the rest.
func failed(err error) string {
	if errors.Is(err, errArgument) {
		return "E16"
	}
	return "E0e"
}

// done is the reply for a command that returns nothing else.
func done(err error) string {
	if err != nil {
		return failed(err)
	}
	return ok
}

// command does what a packet says, and replies.
func (s *session) command(p string) error {
	if s.running {
		// Until the guest stops, a client sends nothing but an interrupt.
		if p == "k" {
			s.target.Kill()
		}
		return nil
	}
	if p == "" {
		return s.reply(unsupported)
	}
	args := p[1:]
	switch p[0] {
	case '?':
		return s.reply(s.last)
	case 'g':
		return s.readRegisters()
	case 'G':
		return s.reply(done(s.writeRegisters(0, args)))
	case 'p':
		return s.readRegister(args)
	case 'P':
		number, value, _ := strings.Cut(args, "=")
		n, err := strconv.ParseUint(number, 16, 16)
		if err != nil || n >= uint64(len(registers())) || len(value) != registers()[n].bits/4 {
			return s.reply(failed(errArgument))
		}
		return s.reply(done(s.writeRegisters(int(n), value)))
	case 'm', 'x':
		return s.readMemory(p[0] == 'x', args)
	case 'M', 'X':
		return s.reply(done(s.writeMemory(p[0] == 'X', args)))
	case 'Z', 'z':
		return s.breakpoint(p[0] == 'Z', args)
	case 'H':
		return s.choose(args)
	case 'T':
		_, err := s.thread(args)
		return s.reply(done(err))
	case 'c', 's':
		return s.goOn(p[0], args)
	case 'D':
		if err := s.target.Detach(); err != nil {
			return errors.Join(errOver, s.reply(failed(err)))
		}
		return errors.Join(errOver, s.reply(ok))
	case 'k':
		s.target.Kill()
		return errOver
	case 'v':
		return s.verbose(p)
	case 'q', 'Q':
		return s.query(p)
	}
	return s.reply(unsupported)
}

// verbose handles the commands that begin with v.
func (s *session) verbose(p string) error {
	name, args, _ := strings.Cut(p, ";")
	switch name {
	case "vCont?":
		return s.reply("vCont;c;C;s;S")
	case "vCont":
		return s.continueEach(args)
	case "vKill":
		s.target.Kill()
		return errors.Join(errOver, s.reply(ok))
	}
	return s.reply(unsupported)
}

// query handles general queries and settings.
func (s *session) query(p string) error {
	name, args, _ := strings.Cut(p, ":")
	name, list, _ := strings.Cut(name, ",")
	switch name {
	case "qSupported":
		features := strings.Split(args, ";")
		s.swbreak = slices.Contains(features, "swbreak+")
		s.hwbreak = slices.Contains(features, "hwbreak+")
		return s.reply(fmt.Sprintf("PacketSize=%x;qXfer:features:read+;QStartNoAckMode+;vContSupported+;swbreak+;hwbreak+;binary-upload+", maxPacket))
	case "QStartNoAckMode":
		err := s.reply(ok)
		s.noAck = true
		return err
	case "qXfer":
		return s.transfer(args)
	case "qAttached":
		return s.reply("1") // a client that ends leaves the guest running
	case "qC":
		return s.reply(fmt.Sprintf("QC%x", s.cpu+1))
	case "qfThreadInfo":
		return s.reply(s.threads())
	case "qsThreadInfo":
		return s.reply("l")
	case "qThreadExtraInfo":
		return s.describe(list)
	case "qSymbol":
		return s.reply(ok)
	}
	return s.reply(unsupported)
}

// transfer sends a part of the target description.
func (s *session) transfer(args string) error {
	part, found := strings.CutPrefix(args, "features:read:target.xml:")
	if !found {
		return s.reply("E00")
	}
	offset, length, err := pair(part)
	if err != nil {
		return s.reply(failed(err))
	}
	text := description()[min(offset, uint64(len(description()))):]
	more := "l"
	if n := min(length, maxPacket/2); uint64(len(text)) > n {
		text, more = text[:n], "m"
	}
	return s.send(appendEscaped([]byte(more), []byte(text)))
}

// pair parses two numbers in hex.
func pair(text string) (a, b uint64, err error) {
	x, y, _ := strings.Cut(text, ",")
	if a, err = strconv.ParseUint(x, 16, 64); err == nil {
		b, err = strconv.ParseUint(y, 16, 64)
	}
	if err != nil {
		err = errArgument
	}
	return a, b, err
}

// threads lists the vCPUs.
func (s *session) threads() string {
	var list []string
	for i := range s.target.CPUs() {
		list = append(list, strconv.FormatUint(uint64(i)+1, 16))
	}
	return "m" + strings.Join(list, ",")
}

// thread returns the vCPU with a thread's number; 0 is any, -1 is all.
func (s *session) thread(text string) (cpu int, err error) {
	n, err := strconv.ParseInt(text, 16, 32)
	switch {
	case err != nil, n > int64(s.target.CPUs()), n < -1:
		return 0, errArgument
	case n == -1:
		return all, nil
	case n == 0:
		return s.cpu, nil
	}
	return int(n) - 1, nil
}

// describe says what a vCPU does.
func (s *session) describe(thread string) error {
	cpu, err := s.thread(thread)
	if err != nil {
		return s.reply(failed(err))
	}
	state, err := s.target.State(cpu)
	if err != nil {
		return s.reply(failed(err))
	}
	what := "running"
	switch state {
	case kvm.MPHalted:
		what = "halted"
	case kvm.MPUninitialized, kvm.MPInitReceived:
		what = "not started"
	}
	return s.reply(hex.EncodeToString(fmt.Appendf(nil, "vCPU %d, %s", cpu, what)))
}

// choose chooses a vCPU for the next commands.
func (s *session) choose(args string) error {
	if args == "" {
		return s.reply(failed(errArgument))
	}
	cpu, err := s.thread(args[1:])
	if err != nil {
		return s.reply(failed(err))
	}
	switch args[0] {
	case 'g':
		if cpu != all {
			s.cpu = cpu
		}
	case 'c':
		s.resume = cpu
	default:
		return s.reply(unsupported)
	}
	return s.reply(ok)
}

// goOn is the old way to go on: c and s, at an address if there is one.
func (s *session) goOn(action byte, addr string) error {
	if addr != "" {
		return s.reply(unsupported)
	}
	cpu := s.resume
	if cpu == all && action == 's' {
		cpu = s.cpu
	}
	return s.start(func(i int) vmm.Action {
		switch {
		case cpu != all && i != cpu:
			return vmm.Hold
		case action == 's':
			return vmm.Step
		}
		return vmm.Continue
	})
}

// continueEach lets each vCPU go on as the first action says that names it, or names
// none.
func (s *session) continueEach(args string) error {
	actions := make(map[int]vmm.Action)
	for part := range strings.SplitSeq(args, ";") {
		what, thread, named := strings.Cut(part, ":")
		cpu := all
		if named {
			var err error
			if cpu, err = s.thread(thread); err != nil {
				return s.reply(failed(err))
			}
		}
		var a vmm.Action
		switch {
		case strings.HasPrefix(what, "c"), strings.HasPrefix(what, "C"):
			a = vmm.Continue // a guest has no signals to get
		case strings.HasPrefix(what, "s"), strings.HasPrefix(what, "S"):
			a = vmm.Step
		default:
			return s.reply(failed(errArgument))
		}
		if _, known := actions[cpu]; !known {
			actions[cpu] = a
		}
	}
	return s.start(func(i int) vmm.Action {
		if a, named := actions[i]; named {
			return a
		}
		return actions[all] // Hold if there is none
	})
}

// start lets the guest go on. The reply is the next stop's.
func (s *session) start(action func(cpu int) vmm.Action) error {
	actions := make([]vmm.Action, s.target.CPUs())
	for i := range actions {
		actions[i] = action(i)
	}
	if err := s.target.Resume(actions); err != nil {
		return s.reply(failed(err))
	}
	s.running = true
	return nil
}

// readRegisters sends all registers.
func (s *session) readRegisters() error {
	regs, sregs, err := s.target.Registers(s.cpu)
	if err != nil {
		return s.reply(failed(err))
	}
	var p []byte
	for _, r := range registers() {
		p = r.append(p, &regs, &sregs)
	}
	return s.send(p)
}

// readRegister sends one register.
func (s *session) readRegister(args string) error {
	n, err := strconv.ParseUint(args, 16, 16)
	if err != nil || n >= uint64(len(registers())) {
		return s.reply(failed(errArgument))
	}
	regs, sregs, err := s.target.Registers(s.cpu)
	if err != nil {
		return s.reply(failed(err))
	}
	return s.send(registers()[n].append(nil, &regs, &sregs))
}

// writeRegisters writes the registers from number first on that text has values for.
func (s *session) writeRegisters(first int, text string) error {
	regs, sregs, err := s.target.Registers(s.cpu)
	if err != nil {
		return err
	}
	var sets [base + 1]bool
	for i := first; text != "" && i < len(registers()); i++ {
		rest, set, err := registers()[i].change(text, &regs, &sregs)
		if err != nil {
			return err
		}
		text, sets[set] = rest, true
	}
	if text != "" {
		return errArgument
	}
	if sets[general] {
		err = s.target.SetRegisters(s.cpu, regs)
	}
	if sets[base] && err == nil {
		err = s.target.SetBases(s.cpu, sregs.FS.Base, sregs.GS.Base)
	}
	return err
}

// readMemory sends guest memory, in hex or as it is. It sends less than was asked for
// if not all is mapped.
func (s *session) readMemory(binary bool, args string) error {
	addr, length, err := pair(args)
	if err != nil {
		return s.reply(failed(err))
	}
	p := make([]byte, min(length, maxPacket/2-1))
	defer clear(p)
	n, err := s.target.ReadAt(s.cpu, p, addr)
	if n == 0 && err != nil {
		return s.reply(failed(err))
	}
	if binary {
		return s.send(appendEscaped([]byte("b"), p[:n]))
	}
	return s.send(hex.AppendEncode(nil, p[:n]))
}

// writeMemory writes guest memory.
func (s *session) writeMemory(binary bool, args string) error {
	where, data, found := strings.Cut(args, ":")
	addr, length, err := pair(where)
	if err != nil || !found {
		return errArgument
	}
	p := []byte(data)
	if !binary {
		if p, err = hex.DecodeString(data); err != nil {
			return errArgument
		}
	}
	if uint64(len(p)) != length {
		return errArgument
	}
	_, err = s.target.WriteAt(s.cpu, p, addr)
	return err
}

// kind returns the kind of a breakpoint by GDB's number. Number 3 is missing: no debug
// register of x86 tells reads from writes. GDB then uses number 4.
func kind(number string) (k vmm.BreakpointKind, known bool) {
	switch number {
	case "0":
		return vmm.Software, true
	case "1":
		return vmm.Hardware, true
	case "2":
		return vmm.Write, true
	case "4":
		return vmm.Access, true
	}
	return 0, false
}

// breakpoint inserts or removes a breakpoint.
func (s *session) breakpoint(insert bool, args string) error {
	number, where, _ := strings.Cut(args, ",")
	where, _, _ = strings.Cut(where, ";") // conditions, which the client checks too
	kind, known := kind(number)
	if !known {
		return s.reply(unsupported)
	}
	addr, length, err := pair(where)
	if err != nil || length > 8 {
		return s.reply(failed(errArgument))
	}
	b := vmm.Breakpoint{Kind: kind, Addr: addr, Len: int(length)}
	if insert {
		return s.reply(done(s.target.Insert(s.cpu, b)))
	}
	return s.reply(done(s.target.Remove(b)))
}
