package limits

import (
	"context"
	"errors"
	"fmt"

	"offmap/memory"
	"offmap/memory/attach"
)

// registerLimits are about registers, which are in ordinary memory with every
// backend.
func registerLimits() []Limit {
	return []Limit{{
		ID:       "registers-in-ordinary-memory",
		Title:    "A guest's registers are in the host's ordinary memory whenever the guest isn't running",
		Source:   "RFC: mm-local memory for the kernel (Fares Mehanna, 2024), to move vCPU registers to; not merged",
		Link:     "https://lore.kernel.org/all/20240911143421.85612-1-faresx@amazon.de/",
		How:      "A guest with secret RAM, over the bridge, has two canaries in its RAM, loads one into r8 to r11 and exits to the VMM. While it is stopped the direct map is searched for both through /proc/kcore.",
		Expected: "The canary in registers is found, the one that is only in secret RAM is not",
		Means:    "No attach hides registers: at every exit they are in the host's direct map, and so is the FPU's state.",
		check: func(ctx context.Context) (Observation, error) {
			return checkRegisters(ctx, memory.Secret, attach.ViaBridge, scanKcore)
		},
	}}
}

// registerProgram reads an address, loads 32 bytes from it into r8 to r11,
// writes to the port, clears the registers, writes to the port and ends.
var registerProgram = []byte{
	0xe5, guestPort, // in eax, guestPort
	0x89, 0xc7, // mov edi, eax
	0x4c, 0x8b, 0x07, // mov r8, [rdi]
	0x4c, 0x8b, 0x4f, 0x08, // mov r9, [rdi + 8]
	0x4c, 0x8b, 0x57, 0x10, // mov r10, [rdi + 16]
	0x4c, 0x8b, 0x5f, 0x18, // mov r11, [rdi + 24]
	0xe7, guestPort, // out guestPort, eax
	0x4d, 0x31, 0xc0, // xor r8, r8
	0x4d, 0x31, 0xc9, // xor r9, r9
	0x4d, 0x31, 0xd2, // xor r10, r10
	0x4d, 0x31, 0xdb, // xor r11, r11
	0xe7, guestPort, // out guestPort, eax
	0xeb, 0xfe, // jmp .
}

func checkRegisters(ctx context.Context, b memory.Backend, m attach.Method, search scan) (o Observation, err error) {
	g, err := newTinyGuest(b, m, 0, registerProgram)
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	canaries, err := newCanaries(2)
	if err != nil {
		return o, err
	}
	const loaded, resting = guestPage, guestPage + memory.PageSize
	for i, gpa := range []memory.GPA{loaded, resting} {
		if _, err := g.RAM.WriteAt([]byte{0}, gpa); err != nil { // an error if there is no page
			return o, err
		}
		canaries[i].Plant(bytesOf(g.RAM)[gpa+plantAt:])
	}
	if _, err := g.touch(uint32(loaded) + plantAt); err != nil {
		return o, err
	}
	hits, err := search(ctx, canaries)
	if err != nil {
		return o, err
	}
	if _, err := g.answer(); err != nil { // the registers are clear
		return o, err
	}
	o.Holds = hits[0].Total > 0 && hits[1].Total == 0
	o.Text = fmt.Sprintf("copies in the direct map while the guest is stopped: %d of the canary in its registers, %d of the one in its RAM", hits[0].Total, hits[1].Total)
	return o, nil
}
