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

// unmapLimits is how far guest RAM can be taken out of the VMM's own address
// space.
func unmapLimits() []Limit {
	return []Limit{{
		ID:     "vmm-address-space",
		Title:  "A guest's RAM stays mapped in the VMM's own address space",
		Source: "the commit message of memfd_secret quotes Lutomirski: a file descriptor could one day back guest memory that no userspace maps; KVM was to be taught that, and guest_memfd is what came of it",
		Link:   "https://git.kernel.org/linus/1507f51255c9",
		How: "tried on running guests: PROT_NONE over a page of the mapping that a slot is made from, and back; " +
			"over the bridge the VMM's secret mapping taken away between two accesses, to a page that the guest has touched before and to a fresh one; " +
			"and what VM types without a host mapping KVM offers",
		Expected: "KVM follows the process's page tables: without the slot's mapping the guest's next access is EFAULT, and with it back the access goes on; " +
			"without the secret mapping the bridge goes on serving pages that exist and makes no new ones, and its view can be read by the VMM like any mapping",
		Means: "with memfd_secret the VMM can't give up its own access to guest RAM: a VMM that is taken over reads its guest. " +
			"Guest RAM that the VMM doesn't map takes guest_memfd in a VM of a protected type, whose pages stay in the direct map unless the CPU encrypts them",
		check: checkUnmap,
	}}
}

func checkUnmap(ctx context.Context) (o Observation, err error) {
	anon, err := protectTrial(memory.Anon, attach.Direct)
	if err != nil {
		return o, err
	}
	said := []string{"PROT_NONE over a page of anonymous RAM: " + anon.String()}
	o.Holds = anon == noneStops
	switch view, err := protectTrial(memory.Secret, attach.ViaBridge); {
	case errors.Is(err, ErrSkipped):
		said = append(said, "the bridge isn't here to be tried")
	case err != nil:
		return o, err
	default:
		said = append(said, "over one of the bridge's view: "+view.String())
		gone, err := vacateTrial()
		if err != nil {
			return o, err
		}
		said = append(said, "secret mapping gone: "+gone.String())
		o.Holds = o.Holds && view == noneStops && gone == vacateServes
	}
	types, err := vmTypes()
	if err != nil {
		return o, err
	}
	o.Text = strings.Join(append(said, types), "; ")
	return o, ctx.Err()
}

// stopped is what became of a guest's access without the slot's mapping, and
// with it back.
type stopped struct{ without, back error }

func (s stopped) String() string {
	return fmt.Sprintf("the guest's next access %s; with the mapping back it %s", went(s.without), went(s.back))
}

// vacated is what became of a guest's accesses without the secret mapping, and
// of the VMM's own through the view.
type vacated struct{ known, fresh, view error }

func (v vacated) String() string {
	return fmt.Sprintf("a page that exists %s, a fresh one %s, the VMM's own look through the view %s", went(v.known), went(v.fresh), went(v.view))
}

// What is expected of the two. The errors are bare errnos.
var (
	noneStops    = stopped{without: unix.EFAULT}
	vacateServes = vacated{fresh: unix.EFAULT}
)

func went(err error) string {
	if err != nil {
		return "failed with " + unix.ErrnoName(err.(unix.Errno))
	}
	return "worked"
}

// bare reduces an error to its errno; one without is not for comparing.
func bare(err error) (errno error, other error) {
	var n unix.Errno
	if err == nil || errors.As(err, &n) && n != 0 {
		if err == nil {
			return nil, nil
		}
		return n, nil
	}
	return nil, err
}

// protectTrial takes the rights to a slot's mapping away while the guest is
// between two accesses, and gives them back.
func protectTrial(b memory.Backend, m attach.Method) (s stopped, err error) {
	g, err := newGuest(b, m, 0, touchProgram)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	if _, err := g.bump(guestPage); err != nil {
		return s, err
	}
	// One page, and the command first: it is the access that is to fail, not
	// the code or the page tables, which software KVMs tell the guest of.
	slot := g.attach.Slots()[0]
	if err := g.command(uint32(guestPage)); err != nil {
		return s, err
	}
	if err := protect(slot, guestPage, unix.PROT_NONE); err != nil {
		return s, err
	}
	_, err = g.answer()
	if s.without, err = bare(err); err != nil {
		return s, err
	}
	if err := protect(slot, guestPage, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return s, err
	}
	_, err = g.answer()
	s.back, err = bare(err)
	return s, err
}

// vacateTrial takes the VMM's secret mapping away under a guest whose slot is
// the bridge's view.
func vacateTrial() (v vacated, err error) {
	g, err := newGuest(memory.Secret, attach.ViaBridge, 0, touchProgram)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	if _, err := g.bump(guestPage); err != nil {
		return v, err
	}
	if err := vacate(g.ram); err != nil {
		return v, err
	}
	word, err := g.read(guestPage)
	if v.known, err = bare(err); err != nil {
		return v, err
	}
	if v.known == nil && word != 1 {
		return v, fmt.Errorf("the page reads %d, the guest wrote 1", word)
	}
	word, err = hostWord(g.attach.Slots()[0], guestPage)
	if v.view, err = bare(err); err != nil {
		return v, err
	}
	if v.view == nil && word != 1 {
		return v, fmt.Errorf("the view reads %d, the guest wrote 1", word)
	}
	_, err = g.read(guestPage + memory.PageSize)
	v.fresh, err = bare(err)
	return v, err
}

// Capabilities of guest_memfd and of VM types (api.rst 8.41 and 4.2).
const (
	capGuestMemfd kvm.Cap = 234
	capVMTypes    kvm.Cap = 235
)

// protectedTypes are the VM types whose guest RAM no host mapping needs to
// show (arch/x86/include/uapi/asm/kvm.h, KVM_X86_*_VM).
var protectedTypes = []string{1: "SW_PROTECTED_VM", 2: "SEV_VM", 3: "SEV_ES_VM", 4: "SNP_VM", 5: "TDX_VM"}

// vmTypes says what this KVM has for guest RAM without a host mapping.
func vmTypes() (string, error) {
	sys, err := kvm.Open("")
	if err != nil {
		return "", lacking(err)
	}
	defer sys.Close()
	memfd, err := sys.Check(capGuestMemfd)
	if err != nil {
		return "", err
	}
	types, err := sys.Check(capVMTypes)
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
