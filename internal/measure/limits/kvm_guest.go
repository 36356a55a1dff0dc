package limits

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"offmap/kvm"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/vmm"
	"offmap/vmm/boot"
)

// A guest of a few instructions, driven by hand: the checks that want to know
// what one access of a guest does, to one page, run it. It is at CPL 3, which
// is native on every KVM, and is told what to do by the answers to its reads
// of guestPort.
const (
	guestPort = 0x80
	guestSize = 32 << 20
	// guestPage is the first page that no guest's own code, stack or page
	// table is in.
	guestPage memory.GPA = 1 << 20
)

// touchProgram reads an address, adds 1 to the 64-bit word there if the
// address is odd (less its lowest bit), reads the word and writes its lower
// half to the port, again and again.
var touchProgram = []byte{
	0xe5, guestPort, // in eax, guestPort
	0x89, 0xc7, // mov edi, eax
	0xa8, 0x01, // test al, 1
	0x74, 0x06, // jz +6
	0x83, 0xe7, 0xfe, // and edi, -2
	0x48, 0xff, 0x07, // inc qword [rdi]
	0x8b, 0x07, // mov eax, [rdi]
	0xe7, guestPort, // out guestPort, eax
	0xeb, 0xec, // jmp to the start
}

// tinyGuest is such a guest, stopped. It belongs to the goroutine that made it.
type tinyGuest struct {
	*attach.VM
	cpu *kvm.VCPU
}

// newTinyGuest makes a guest with guestSize bytes of RAM that runs code, whose
// slots have flags. Where the host can't, the error wraps ErrSkipped.
func newTinyGuest(b memory.Backend, m attach.Method, flags uint32, code []byte) (*tinyGuest, error) {
	runtime.LockOSThread()
	g := &tinyGuest{}
	if err := g.create(b, m, flags, code); err != nil {
		return nil, errors.Join(lacking(err), g.Close())
	}
	return g, nil
}

// lacking turns an error that says that this host has no KVM, no secret memory
// or no such attach into one that wraps ErrSkipped.
func lacking(err error) error {
	if _, ok := errors.AsType[*kvm.OpenError](err); ok {
		return skipped("no KVM: %v", err)
	}
	if e, ok := errors.AsType[*attach.RefusedError](err); ok {
		var why []string
		for _, r := range e.Rejected {
			why = append(why, fmt.Sprintf("%s: %s", r.Attach, r.Reason))
		}
		return skipped("%s", strings.Join(why, "; "))
	}
	if errors.Is(err, memory.ErrUnavailable) {
		return skipped("%v", err)
	}
	return err
}

func (g *tinyGuest) create(b memory.Backend, m attach.Method, flags uint32, code []byte) error {
	layout, err := memory.NewLayout(guestSize)
	if err != nil {
		return err
	}
	if g.VM, err = attach.NewVM("", attach.Pair{Backend: b, Attach: m}, layout, attach.Options{CPUs: 1}); err != nil {
		return err
	}
	if err := g.SetSlots(flags); err != nil {
		return err
	}
	if g.cpu, err = g.KVM.CreateVCPU(0); err != nil {
		return err
	}
	cpuid, err := g.System.SupportedCPUID()
	if err != nil {
		return err
	}
	if err := g.cpu.SetCPUID(cpuid); err != nil {
		return err
	}
	states, err := boot.Payload(g.Guest(), code, boot.PayloadConfig{CPUs: 1, Ring: 3})
	if err != nil {
		return err
	}
	return vmm.SetState(g.cpu, states[0])
}

// Close frees everything that there is, whatever has been made of it.
func (g *tinyGuest) Close() error {
	defer runtime.UnlockOSThread()
	var errs []error
	if g.cpu != nil {
		errs = append(errs, g.cpu.Close())
	}
	if g.VM != nil {
		errs = append(errs, g.VM.Close())
	}
	return errors.Join(errs...)
}

// run enters the guest until it uses guestPort for 4 bytes, in the direction
// wanted.
func (g *tinyGuest) run(write bool) (*kvm.Exit, error) {
	x, err := g.exchange(write)
	if err == nil && len(x.Data) != 4 {
		return nil, fmt.Errorf("a test guest used its port for %d bytes", len(x.Data))
	}
	return x, err
}

// exchange enters the guest until it uses guestPort, in the direction wanted.
func (g *tinyGuest) exchange(write bool) (*kvm.Exit, error) {
	x, err := g.cpu.Run()
	for errors.Is(err, unix.EINTR) { // a signal of the Go runtime's
		x, err = g.cpu.Run()
	}
	if err != nil {
		return nil, err
	}
	if x.Reason == kvm.ExitMMIO {
		return nil, errMMIO
	}
	if x.Reason != kvm.ExitIO || x.Addr != guestPort || x.Write != write || len(x.Data) == 0 {
		return nil, fmt.Errorf("a test guest ended with exit %s", x.Reason)
	}
	return x, nil
}

// errMMIO is an access that KVM takes for one to a device: there is no memory
// there, or none that may be written.
var errMMIO = errors.New("MMIO exit")

// command answers the guest's read of its port.
func (g *tinyGuest) command(value uint32) error {
	x, err := g.run(false)
	if err == nil {
		binary.LittleEndian.PutUint32(x.Data, value)
	}
	return err
}

// answer is what the guest then writes to its port.
func (g *tinyGuest) answer() (uint32, error) {
	x, err := g.run(true)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(x.Data), nil
}

// read has touchProgram read the word at gpa.
func (g *tinyGuest) read(gpa memory.GPA) (uint32, error) { return g.touch(uint32(gpa)) }

// bump has touchProgram add 1 to the word at gpa and read it.
func (g *tinyGuest) bump(gpa memory.GPA) (uint32, error) { return g.touch(uint32(gpa) | 1) }

// touch sends a command. If the access fails the guest stays before it, and
// answer tries it again.
func (g *tinyGuest) touch(command uint32) (uint32, error) {
	if err := g.command(command); err != nil {
		return 0, err
	}
	return g.answer()
}
