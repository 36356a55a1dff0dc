package limits

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"offmap/kvm"
	"offmap/memory"
	"offmap/memory/attach"
)

// unmapLimits are about taking guest RAM out of the VMM's own address space.
func unmapLimits() []Limit {
	return []Limit{{
		ID:     "vmm-address-space",
		Title:  "A guest's RAM stays mapped in the VMM's own address space",
		Source: sourceCommit + ", which quotes Andy Lutomirski: guests from a file descriptor, without a mapping, take major work in KVM. guest_memfd is what came of it",
		Link:   linkCommit,
		How:    "Tried on guests between two accesses: PROT_NONE over a page of the mapping that a slot is made from, and back; over the bridge the VMM's secret mapping taken away, then an access to a page that exists and to a fresh one. And what VM types KVM has that take RAM without a mapping.",
		Expected: "KVM follows the process's mappings. Without rights to ordinary RAM every access is EFAULT until they are back; of the bridge's view KVM takes what the page table entry says, so reads go on and writes come out as MMIO exits. " +
			"Without the secret mapping the bridge goes on with the pages that exist and makes no new ones; the VMM still reads guest RAM through the view",
		Means: "The VMM can't give up its own access: the view must stay mapped for writing, so a VMM that is taken over reads its guest. The secret mapping can go once every page exists. " +
			"RAM that the VMM doesn't map takes guest_memfd and a protected VM type, whose pages stay in the direct map, readable unless the CPU encrypts them.",
		check: checkUnmap,
	}}
}

func checkUnmap(ctx context.Context) (o Observation, err error) {
	anon, err := protectTrial(memory.Anon, attach.Direct)
	if err != nil {
		return o, err
	}
	said := "PROT_NONE over a page of anonymous RAM: " + anon.String()
	types, err := vmTypes()
	if err != nil {
		return o, err
	}
	view, err := protectTrial(memory.Secret, attach.ViaBridge)
	if errors.Is(err, ErrSkipped) {
		return o, fmt.Errorf("%w; without the bridge: %s; %s", err, said, types)
	}
	if err != nil {
		return o, err
	}
	gone, err := vacateTrial()
	if err != nil {
		return o, err
	}
	o.Holds = anon == ordinaryStops && view == viewStops && gone == vacateServes
	o.Text = fmt.Sprintf("%s; over one of the bridge's view: %v; secret mapping gone: %v; %s", said, view, gone, types)
	return o, ctx.Err()
}

// became is the result of one access.
type became string

const (
	worked became = "works"
	fault  became = "fails with EFAULT"
	device became = "comes out as an MMIO exit"
)

// becameOf returns the result of an access that ended with err, or err if that is
// an error of the check.
func becameOf(err error) (became, error) {
	switch {
	case err == nil:
		return worked, nil
	case errors.Is(err, unix.EFAULT):
		return fault, nil
	case errors.Is(err, errMMIO):
		return device, nil
	}
	return "", err
}

// stopped are the results of a guest's accesses to a page of its slot's mapping
// with PROT_NONE. again is that of a failed access when the rights are back.
type stopped struct{ read, write, again became }

// KVM gets ordinary pages by GUP, which checks the rights of the mapping. In a
// PFNMAP it uses the page table entry, in which PROT_NONE has only cleared the right
// to write.
var (
	ordinaryStops = stopped{read: fault, write: fault, again: worked}
	viewStops     = stopped{read: worked, write: device}
)

func (s stopped) String() string {
	text := fmt.Sprintf("a read %s, a write %s", s.read, s.write)
	if s.again != "" {
		text += fmt.Sprintf(", and it %s when the rights are back", s.again)
	}
	return text
}

// protectTrial removes the rights to a page between two accesses of a guest.
func protectTrial(b memory.Backend, m attach.Method) (s stopped, err error) {
	if s.read, s.again, err = protectOnce(b, m, uint32(guestPage)); err != nil {
		return s, err
	}
	s.write, _, err = protectOnce(b, m, uint32(guestPage)|1)
	return s, err
}

// protectOnce does so for one access. It gives the guest its command first, so that
// only the access can fail, and protects only that page: if a software KVM can't
// read the guest's page tables, the guest gets a fault.
func protectOnce(b memory.Backend, m attach.Method, command uint32) (without, again became, err error) {
	g, err := newTinyGuest(b, m, 0, touchProgram)
	if err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	if _, err := g.bump(guestPage); err != nil {
		return "", "", err
	}
	slot := g.Slots()[0]
	if err := g.command(command); err != nil {
		return "", "", err
	}
	if err := protect(slot, guestPage, unix.PROT_NONE); err != nil {
		return "", "", err
	}
	_, err = g.answer()
	if without, err = becameOf(err); err != nil || without != fault {
		return without, "", err
	}
	if err := protect(slot, guestPage, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return "", "", err
	}
	_, err = g.answer()
	again, err = becameOf(err)
	return without, again, err
}

// vacated are the results of a guest's accesses without the secret mapping, to a
// page that existed before and to a fresh one, and of the VMM's own through the
// view.
type vacated struct{ known, fresh, view became }

var vacateServes = vacated{known: worked, fresh: fault, view: worked}

func (v vacated) String() string {
	return fmt.Sprintf("an access to a page that exists %s, to a fresh one %s, the VMM's own through the view %s", v.known, v.fresh, v.view)
}

// vacateTrial removes the VMM's secret mapping while a guest has the bridge's view
// as its slot.
func vacateTrial() (v vacated, err error) {
	g, err := newTinyGuest(memory.Secret, attach.ViaBridge, 0, touchProgram)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	if _, err := g.bump(guestPage); err != nil {
		return v, err
	}
	if err := vacate(g.RAM); err != nil {
		return v, err
	}
	for _, look := range []struct {
		to   *became
		read func() (uint32, error)
	}{
		{&v.known, func() (uint32, error) { return g.read(guestPage) }},
		{&v.view, func() (uint32, error) { return hostWord(g.Slots()[0], guestPage) }},
	} {
		word, err := look.read()
		if *look.to, err = becameOf(err); err != nil {
			return v, err
		}
		if *look.to == worked && word != 1 {
			return v, fmt.Errorf("the page reads %d, the guest wrote 1", word)
		}
	}
	_, err = g.read(guestPage + memory.PageSize)
	v.fresh, err = becameOf(err)
	return v, err
}

// protectedTypes are the VM types with private memory, which no mapping shows
// (arch/x86/include/uapi/asm/kvm.h, KVM_X86_*_VM).
var protectedTypes = []string{1: "SW_PROTECTED_VM", 4: "SNP_VM", 5: "TDX_VM"}

// vmTypes lists the VM types of this KVM that take RAM without a host mapping.
func vmTypes() (string, error) {
	sys, err := kvm.Open("")
	if err != nil {
		return "", lacking(err)
	}
	defer sys.Close()
	memfd, err := sys.Check(kvm.CapGuestMemfd)
	if err != nil {
		return "", err
	}
	types, err := sys.Check(kvm.CapVMTypes)
	if err != nil {
		return "", err
	}
	var have []string
	for bit, name := range protectedTypes {
		if types>>bit&1 != 0 && name != "" {
			have = append(have, name)
		}
	}
	switch {
	case memfd == 0:
		return "no guest_memfd on this kernel", nil
	case len(have) == 0:
		return "guest_memfd is there, but no VM type that takes RAM without a host mapping", nil
	}
	return "guest_memfd is there, with " + strings.Join(have, ", "), nil
}
