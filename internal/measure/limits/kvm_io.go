package limits

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"offmap/audit/canary"
	"offmap/memory"
	"offmap/memory/attach"
)

// ioLimits are about data that a guest exchanges with its devices.
func ioLimits() []Limit {
	return []Limit{{
		ID:       "io-in-ordinary-memory",
		Title:    "Data that a guest exchanges with a device through a port is in the host's ordinary memory, and stays there",
		Source:   "KVM's API, section 5: struct kvm_run and the data of KVM_EXIT_IO and KVM_EXIT_MMIO, in pages that the kernel shares with the VMM",
		Link:     "https://docs.kernel.org/virt/kvm/api.html#the-kvm-run-structure",
		How:      "A guest with secret RAM, over the bridge, reads 32 bytes from a port (rep insb), which are a canary that the VMM puts into kvm_run; then it writes a second canary from its RAM to the port (rep outsb). A third stays in its RAM. The direct map is searched through /proc/kcore while the guest waits for the bytes, when it has taken them, and when it has written.",
		Expected: "The canary that was read is found while the guest waits and still when it has taken it, and what the guest writes goes through the same bytes of kvm_run; the canary that stays in RAM is never found",
		Means:    "No attach hides data that goes through ports and MMIO registers, such as a serial console's text. It stays in kvm_run until the next exchange overwrites it. KVM's instruction emulator keeps a copy of a string that was read (arch/x86/kvm/emulate.c, io_read), and the VMM has copies in its heap.",
		check: func(ctx context.Context) (Observation, error) {
			return checkIO(ctx, memory.Secret, attach.ViaBridge, scanKcore)
		},
	}}
}

// ioProgram reads an address, reads 32 bytes from the port to there, writes the
// 32 bytes that follow to the port and ends.
var ioProgram = []byte{
	0xe5, guestPort, // in eax, guestPort
	0x89, 0xc7, // mov edi, eax
	0xba, guestPort, 0, 0, 0, // mov edx, guestPort
	0xb9, canary.Size, 0, 0, 0, // mov ecx, 32
	0xf3, 0x6c, // rep insb
	0x89, 0xfe, // mov esi, edi
	0xb9, canary.Size, 0, 0, 0, // mov ecx, 32
	0xf3, 0x6e, // rep outsb
	0xeb, 0xfe, // jmp .
}

func checkIO(ctx context.Context, b memory.Backend, m attach.Method, search scan) (o Observation, err error) {
	g, err := newTinyGuest(b, m, 0, ioProgram)
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	canaries, err := newCanaries(3)
	if err != nil {
		return o, err
	}
	const (
		given   = guestPage + plantAt
		written = given + canary.Size
		resting = given + memory.PageSize
	)
	for i, gpa := range map[int]memory.GPA{1: written, 2: resting} {
		if _, err := g.RAM.WriteAt([]byte{0}, gpa); err != nil { // an error if there is no page
			return o, err
		}
		canaries[i].Plant(bytesOf(g.RAM)[gpa:])
	}
	if err := g.command(uint32(given)); err != nil {
		return o, err
	}
	x, err := g.exchange(false)
	if err != nil {
		return o, err
	}
	if len(x.Data) != canary.Size {
		return o, fmt.Errorf("KVM asks for %d bytes of a string of %d", len(x.Data), canary.Size)
	}
	place := &x.Data[0]
	canaries[0].Plant(x.Data)
	waiting, err := search(ctx, canaries)
	if err != nil {
		return o, err
	}
	if err := g.complete(); err != nil {
		return o, err
	}
	if !canaries[0].In(bytesOf(g.RAM)[given:]) {
		return o, errors.New("a test guest hasn't got what it read")
	}
	taken, err := search(ctx, canaries)
	if err != nil {
		return o, err
	}
	same, exits := true, 0
	for out := bytesOf(g.RAM)[written:][:canary.Size]; len(out) > 0; exits++ {
		x, err := g.exchange(true)
		if err != nil {
			return o, err
		}
		if !bytes.HasPrefix(out, x.Data) {
			return o, errors.New("a test guest wrote what isn't in its RAM")
		}
		same = same && &x.Data[0] == place
		out = out[len(x.Data):]
	}
	end, err := search(ctx, canaries)
	if err != nil {
		return o, err
	}
	where := "at the same place of kvm_run"
	if !same {
		where = "not at the same place of kvm_run"
	}
	o.Holds = same && waiting[0].Total > 0 && taken[0].Total > 0 &&
		waiting[2].Total == 0 && taken[2].Total == 0 && end[2].Total == 0
	o.Text = fmt.Sprintf("copies in the direct map, of the canary that was read: %d while the guest waits, %d when it has it, %d when it has written; it writes 32 bytes in %d exits, %s: copies of that canary as a whole, %d; of the one that stays in its RAM %d, %d and %d",
		waiting[0].Total, taken[0].Total, end[0].Total, exits, where, end[1].Total, waiting[2].Total, taken[2].Total, end[2].Total)
	return o, nil
}

// complete has KVM finish the exchange that the guest has stopped at, without
// the guest going on (api.rst 5, KVM_EXIT_IO and immediate_exit).
func (g *tinyGuest) complete() error {
	g.cpu.RequestExit()
	defer g.cpu.ClearExit()
	x, err := g.cpu.Run()
	if err == nil {
		return fmt.Errorf("a test guest went on to exit %s", x.Reason)
	}
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	return err
}
