package audit

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"offmap/internal/process/sandbox"
)

// kernelRead has the kernel read guest RAM at its address in the direct map, as
// kernel code with a stray pointer would.
var kernelRead = Avenue{
	Name: "kernel-read", Attack: attackKernelRead,
	About: "has a BPF program read the page frames of guest RAM in the kernel's direct map, bpf_probe_read_kernel",
}

func attackKernelRead(ctx context.Context, t Target) (Finding, error) {
	k, err := newKernelReader()
	if err != nil {
		return Finding{}, err
	}
	defer k.close()
	base, err := k.directMap()
	if err != nil {
		return Finding{}, err
	}
	frames, err := t.physical(ctx)
	if err != nil {
		return Finding{}, err
	}
	var f Finding
	for _, frame := range frames {
		if err := ctx.Err(); err != nil {
			return f, err
		}
		p, err := k.page(base + frame*pageSize)
		if err != nil {
			f.refused(err)
			continue
		}
		f.look(&t.Canary, p)
	}
	return f, nil
}

// kernelReader reads a page of kernel memory at a time. Its BPF program isn't
// attached to anything: BPF_PROG_TEST_RUN runs it, with the address as a
// tracepoint's argument.
type kernelReader struct {
	program *ebpf.Program
	buffer  *bpfBuffer
}

func newKernelReader() (*kernelReader, error) {
	b, err := newBPFBuffer(pageSize)
	if err != nil {
		return nil, err
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.RawTracepoint, License: "GPL",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R3, asm.R1, 0, asm.DWord), // the first argument
			asm.LoadMapValue(asm.R1, b.FD(), 0),
			asm.Mov.Imm(asm.R2, pageSize),
			asm.FnProbeReadKernel.Call(),
			asm.Return(), // 0 or an errno, negative
		},
	})
	if err != nil {
		b.close()
		return nil, noBPF("load a BPF program that reads kernel memory", err)
	}
	return &kernelReader{p, b}, nil
}

func (k *kernelReader) close() {
	k.program.Close()
	k.buffer.close()
}

// page returns the page at a kernel address, valid until the next call.
func (k *kernelReader) page(addr uint64) ([]byte, error) {
	ret, err := k.program.Run(&ebpf.RunOptions{Context: addr})
	if err != nil {
		return nil, fmt.Errorf("run a BPF program: %w", err)
	}
	if ret != 0 {
		return nil, fmt.Errorf("bpf_probe_read_kernel at %#x: %w", addr, unix.Errno(-int32(ret)))
	}
	return k.buffer.mem, nil
}

// directMap finds where the direct map begins. It tries the addresses that the
// kernel or its documentation gives, by reading a page of this process.
func (k *kernelReader) directMap() (base uint64, err error) {
	err = ownPage(func(frame uint64, content []byte) error {
		var first error
		for _, b := range k.bases() {
			p, err := k.page(b + frame*pageSize)
			if err == nil && bytes.Equal(p, content) {
				base = b
				return nil
			}
			if first == nil {
				first = err
			}
		}
		return unavailable("a page of this process's own can't be read through the kernel's direct map (%v)", first)
	})
	return base, err
}

// bases are the addresses at which the direct map may begin: those of a kernel
// without KASLR, for 4 and 5 levels of page tables
// (Documentation/arch/x86/x86_64/mm.rst), and what the kernel's variable says.
func (k *kernelReader) bases() []uint64 {
	bases := []uint64{0xffff888000000000, 0xff11000000000000}
	if addr, err := kernelSymbol("page_offset_base"); err == nil {
		if p, err := k.page(addr); err == nil {
			bases = append(bases, binary.LittleEndian.Uint64(p))
		}
	}
	return bases
}

// kernelSymbol looks up an address in /proc/kallsyms, which shows 0 to callers
// without the right.
func kernelSymbol(name string) (uint64, error) {
	text, err := os.ReadFile("/proc/kallsyms")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[2] != name {
			continue
		}
		addr, err := strconv.ParseUint(fields[0], 16, 64)
		if err != nil || addr == 0 {
			return 0, fmt.Errorf("/proc/kallsyms: address %q of %s", fields[0], name)
		}
		return addr, nil
	}
	return 0, fmt.Errorf("/proc/kallsyms: no %s", name)
}

// bpfBuffer is memory that a BPF program writes and this process reads: the
// one value of an array.
type bpfBuffer struct {
	*ebpf.Map
	mem []byte
}

func newBPFBuffer(size int) (*bpfBuffer, error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{
		Type: ebpf.Array, KeySize: 4, ValueSize: uint32(size), MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE,
	})
	if err != nil {
		return nil, noBPF("create a BPF map", err)
	}
	mem, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("mmap of a BPF map: %w", err)
	}
	return &bpfBuffer{m, mem}, nil
}

func (b *bpfBuffer) close() {
	clear(b.mem)
	unix.Munmap(b.mem)
	b.Close()
}

// noBPF makes the error of a host without BPF, or without the right to it, one that
// matches ErrUnavailable.
func noBPF(what string, err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOSYS) || errors.Is(err, ebpf.ErrNotSupported) {
		// Without advice that isn't ours, and where the library took the errno
		// for an answer to something else, with that of a call that does nothing.
		if errno := unix.Errno(0); errors.As(err, &errno) {
			err = errno
		} else if _, _, errno := unix.Syscall(unix.SYS_BPF, ^uintptr(0), 0, 0); errno == unix.ENOSYS || errno == unix.EACCES {
			err = errno
		}
		return unavailable("%s: %v: needs root, CONFIG_BPF_EVENTS and a kernel that isn't locked down", what, sandbox.Suspect("bpf", err))
	}
	return fmt.Errorf("%s: %w", what, err)
}
