package audit

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"offmap/audit/inject"
)

// ptraceSyscall has the VMM write its own memory to a file. The kernel copies
// whatever a process may read, secret or not. This is the owner's right, used by
// somebody who may trace the owner.
var ptraceSyscall = Avenue{
	Name: "ptrace-syscall", Attack: attackPtraceSyscall, Owner: true,
	About: "has the VMM write(2) its memory to a file of the attacker's, a system call injected with ptrace",
}

func attackPtraceSyscall(ctx context.Context, t Target) (Finding, error) {
	return t.inject(ctx, func(th *inject.Thread) (Finding, error) {
		d, err := newDrop(th)
		if err != nil {
			return Finding{}, err
		}
		defer d.close()
		return t.sweep(ctx, dropSize, d.writtenBy(th))
	})
}

// inject makes an attack with a thread that it adds to the VMM. If the process may
// not be traced, the attack is unavailable: that says nothing of the memory.
func (t Target) inject(ctx context.Context, attack func(*inject.Thread) (Finding, error)) (f Finding, err error) {
	err = inject.Run(ctx, t.PID, func(th *inject.Thread) (err error) {
		f, err = attack(th)
		return err
	})
	if errors.Is(err, inject.ErrRefused) {
		err = orDenied(err)
	}
	return f, err
}

// A drop is a file that the VMM and the attacker share: the VMM writes, the
// attacker reads. Unlike a pipe's, its pages can be wiped.
type drop struct {
	fd     int
	theirs uint64 // the VMM's descriptor
}

// dropSize is its size in bytes.
const dropSize = 1 << 20

func newDrop(th *inject.Thread) (*drop, error) {
	fd, err := unix.MemfdCreate("offmap-audit", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	theirs, err := th.Give(fd)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &drop{fd, uint64(theirs)}, nil
}

func (d *drop) close() {
	unix.Pwrite(d.fd, make([]byte, dropSize), 0)
	unix.Close(d.fd)
}

// writtenBy is a reader by a thread, which writes its process's memory to the drop.
func (d *drop) writtenBy(th *inject.Thread) reader {
	return func(p []byte, addr uint64) (int, error) {
		n, err := th.Call(unix.SYS_PWRITE64, d.theirs, addr, uint64(len(p)), 0)
		if err != nil {
			return 0, err
		}
		return unix.Pread(d.fd, p[:n], 0)
	}
}
