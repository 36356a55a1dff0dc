package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// userRead has the kernel read guest RAM through the VMM's page tables, as every
// system call reads the buffers that it is given.
var userRead = Avenue{
	Name: "bpf-user-read", Attack: attackUserRead, Owner: true,
	About: "has a BPF program read the VMM's memory when the VMM makes a system call, bpf_probe_read_user",
}

// userPages is how many pages are read in one system call of the VMM.
const userPages = 256

func attackUserRead(ctx context.Context, t Target) (f Finding, err error) {
	areas, err := t.areas()
	if err != nil {
		return f, err
	}
	u, err := newUserReader(t.PID)
	if err != nil {
		return f, err
	}
	defer u.close()
	for _, a := range areas {
		for addr := a.Start; addr < a.End; addr += userPages * pageSize {
			results, err := u.read(ctx, addr)
			if err != nil {
				return f, err
			}
			pages := min(userPages, (a.End-addr)/pageSize)
			for i, errno := range results[:pages] {
				if errno < 0 {
					f.refused(unix.Errno(-errno))
					continue
				}
				f.look(&t.Canary, u.buffer.mem[i*pageSize:(i+1)*pageSize])
			}
		}
	}
	return f, nil
}

// hostPIDs is the inode of the first PID namespace, PROC_PID_INIT_INO of
// include/linux/proc_ns.h.
const hostPIDs = 0xeffffffc

// userReader reads pages of a process's memory in that process's context.
type userReader struct {
	pid     int
	request *ebpf.Map
	buffer  *bpfBuffer
	program *ebpf.Program
	link    link.Link
}

// userRequest is a request to the program and its answer: the value of its map.
type userRequest struct {
	Addr uint64 // to read from; the program takes it, and leaves 0
	Done uint64 // 1 when Results and the buffer are filled
	// Results has 0 or a negative errno for each page. The kernel fills pages
	// that it couldn't read with zeros.
	Results [userPages]int32
}

// Offsets in it.
const (
	requestDone    = 8
	requestResults = 16
)

func newUserReader(pid int) (_ *userReader, err error) {
	// The program identifies processes by their IDs in the first namespace.
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &st); err != nil {
		return nil, fmt.Errorf("stat /proc/self/ns/pid: %w", err)
	}
	if st.Ino != hostPIDs {
		return nil, unavailable("processes have other numbers in this PID namespace than in the host's: run outside of containers")
	}
	u := &userReader{pid: pid}
	defer func() {
		if err != nil {
			u.close()
		}
	}()
	if u.buffer, err = newBPFBuffer(userPages * pageSize); err != nil {
		return nil, err
	}
	u.request, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: requestResults + 4*userPages, MaxEntries: 1})
	if err != nil {
		return nil, noBPF("create a BPF map", err)
	}
	u.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.RawTracepoint, License: "GPL", Instructions: u.instructions(),
	})
	if err != nil {
		return nil, noBPF("load a BPF program that reads user memory", err)
	}
	if u.link, err = link.AttachRawTracepoint(link.RawTracepointOptions{Name: "sys_enter", Program: u.program}); err != nil {
		return nil, noBPF("attach a BPF program to sys_enter", err)
	}
	return u, nil
}

// instructions are the program. R6 is the request, R7 the address, R8 the
// page's number, R9 the offset in the buffer.
func (u *userReader) instructions() asm.Instructions {
	take := asm.Xchg.Mem(asm.R6, asm.R7, asm.DWord, 0)
	take.Constant = int64(asm.Xchg >> 8) // cilium/ebpf 0.22.0 leaves it 0, an addition
	return asm.Instructions{
		asm.FnGetCurrentPidTgid.Call(),
		asm.RSh.Imm(asm.R0, 32),
		asm.JNE.Imm(asm.R0, int32(u.pid), "out"),
		// Take the request: the first thread to come serves it.
		asm.LoadMapValue(asm.R6, u.request.FD(), 0),
		asm.Mov.Imm(asm.R7, 0),
		take,
		asm.JEq.Imm(asm.R7, 0, "out"),
		asm.Mov.Imm(asm.R8, 0),

		asm.LoadMapValue(asm.R1, u.buffer.FD(), 0).WithSymbol("page"),
		asm.Mov.Reg(asm.R9, asm.R8),
		asm.LSh.Imm(asm.R9, 12),
		asm.Add.Reg(asm.R1, asm.R9),
		asm.Mov.Imm(asm.R2, pageSize),
		asm.Mov.Reg(asm.R3, asm.R7),
		asm.Add.Reg(asm.R3, asm.R9),
		asm.FnProbeReadUser.Call(),
		asm.Mov.Reg(asm.R1, asm.R8),
		asm.LSh.Imm(asm.R1, 2),
		asm.Mov.Reg(asm.R2, asm.R6),
		asm.Add.Reg(asm.R2, asm.R1),
		asm.StoreMem(asm.R2, requestResults, asm.R0, asm.Word),
		asm.Add.Imm(asm.R8, 1),
		asm.JLT.Imm(asm.R8, userPages, "page"),

		asm.Mov.Imm(asm.R1, 1),
		asm.StoreMem(asm.R6, requestDone, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("out"),
		asm.Return(),
	}
}

func (u *userReader) close() {
	if u.link != nil {
		u.link.Close()
	}
	if u.program != nil {
		u.program.Close()
	}
	if u.request != nil {
		u.request.Close()
	}
	if u.buffer != nil {
		u.buffer.close()
	}
}

// userPatience is how long a VMM may take to make its next system call.
const userPatience = 30 * time.Second

// read reads memory from addr on into the buffer, and returns 0 or an errno for
// each page.
func (u *userReader) read(ctx context.Context, addr uint64) ([]int32, error) {
	r := userRequest{Addr: addr}
	if err := u.request.Put(uint32(0), r); err != nil {
		return nil, fmt.Errorf("write a BPF map: %w", err)
	}
	for start := time.Now(); ; time.Sleep(50 * time.Microsecond) {
		if err := u.request.Lookup(uint32(0), &r); err != nil {
			return nil, fmt.Errorf("read a BPF map: %w", err)
		}
		switch {
		case r.Done != 0:
			return r.Results[:], nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case time.Since(start) > userPatience:
			return nil, fmt.Errorf("process %d made no system call for %v, not even to return from SIGURG", u.pid, userPatience)
		}
		// Go's handler of SIGURG only returns, by a system call.
		if err := unix.Kill(u.pid, unix.SIGURG); err != nil && !errors.Is(err, unix.EPERM) {
			return nil, fmt.Errorf("nudge process %d: %w", u.pid, err)
		}
	}
}
