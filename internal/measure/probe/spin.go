package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"offmap/guest/protocol"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/vmm"
	"offmap/vmm/boot"
)

// spinTurns is the number of turns of the guest's loop. They take a tenth of a second
// if KVM interprets the guest's instructions, and no time otherwise.
const spinTurns = 100_000

// spinImage returns a payload (see guest/payload) that reports userland, turns a loop
// of two instructions and ends the guest with exit code 0.
func spinImage() []byte {
	code := []byte{
		0xba, protocol.EventPort & 0xff, protocol.EventPort >> 8, 0, 0, // mov edx, EventPort
		0xb0, protocol.EventUserland, // mov al, EventUserland
		0xee, // out dx, al
		0xb9, // mov ecx, spinTurns
	}
	code = binary.LittleEndian.AppendUint32(code, spinTurns)
	return append(code,
		0xff, 0xc9, // dec ecx
		0x75, 0xfc, // jnz -4
		0xba, protocol.ExitPort&0xff, protocol.ExitPort>>8, 0, 0, // mov edx, ExitPort
		0x30, 0xc0, // xor al, al
		0xee,       // out dx, al
		0xeb, 0xfe, // jmp .
	)
}

// spinTimeout ends a guest that a broken KVM doesn't let end.
const spinTimeout = 30 * time.Second

var errSpin = errors.New("a test guest that should end at once was still running")

// spin runs the loop in a guest of the smallest size, at privilege level ring. It
// touches a few pages. It returns how long the loop took. The error is the cause of
// ctx if that ended the guest.
func spin(ctx context.Context, device string, p attach.Pair, ring uint8) (time.Duration, error) {
	start := time.Now()
	machine, err := vmm.New(vmm.Config{
		Memory: memory.MinSize, Backend: p.Backend, Attach: p.Attach, KVM: device, Dumpable: true,
		Guest: boot.PayloadLoader(spinImage(), boot.PayloadConfig{Ring: ring}),
	})
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, spinTimeout, errSpin)
	defer cancel()
	r, err := machine.Run(ctx)
	took := time.Since(start) - r.ToUserland
	if err == nil && (r.Outcome.Reason != vmm.PowerOff || r.Outcome.Code != 0) {
		err = fmt.Errorf("a test guest ended with %s %d instead of its exit: %s", r.Outcome.Reason, r.Outcome.Code, r.Outcome.Detail)
	}
	return took, errors.Join(err, machine.Close())
}
