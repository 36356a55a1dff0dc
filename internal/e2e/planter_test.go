package e2e

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"offmap/audit/canary"
	"offmap/memory"
)

// Where the planter's pages start, and where in each page the canary goes.
const (
	planterEntry = 2 << 20
	planterRAM   = 4 << 20
	planterPlace = 5 * 64
)

// planter makes a kernel that is up at once and plants a canary of the host's
// in that many pages, a power of two, in an order without neighbours. It prints
// a line, and then does it all over again for as long as it lives, or with once
// touches no memory any more. It returns the arguments of `offmap run` that
// boot it, and the canary.
//
// The canary's clear text is in no image: the code holds it masked, and
// unmasks one word at a time, in a register.
func planter(t *testing.T, pages int, once bool) ([]string, canary.Canary) {
	t.Helper()
	c, err := canary.New()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "planter")
	if err := os.WriteFile(path, kernelELF(plant(c, uint32(pages), once)), 0o644); err != nil {
		t.Fatal(err)
	}
	ram := strconv.Itoa(max(32, planterRAM>>20+pages>>8)) // MiB
	return []string{"-k", path, "-m", ram, "--cmdline", "none"}, c
}

// plant is the code, for 64-bit mode with all RAM mapped onto itself.
func plant(c canary.Canary, pages uint32, once bool) []byte {
	var code []byte
	emit := func(b ...byte) { code = append(code, b...) }
	imm32 := func(v uint32) { code = binary.LittleEndian.AppendUint32(code, v) }
	say := func(b byte) { emit(0xb0, b, 0xee) } // mov $b, %al; out %al, (%dx)

	masked, pad := maskedWords(c.String()), pads()
	emit(0x45, 0x31, 0xc0) // xor %r8d, %r8d: the page
	round := len(code)
	emit(0x41, 0xb9) // mov $pages, %r9d
	imm32(pages)
	next := len(code)
	emit(0x4c, 0x89, 0xc7)                       // mov %r8, %rdi
	emit(0x48, 0xc1, 0xe7, 12, 0x48, 0x81, 0xc7) // shl $12, %rdi; add $planterRAM, %rdi
	imm32(planterRAM)
	for i := range masked {
		emit(0x48, 0xb8) // mov $masked, %rax
		code = binary.LittleEndian.AppendUint64(code, masked[i])
		emit(0x48, 0xbb) // mov $pad, %rbx
		code = binary.LittleEndian.AppendUint64(code, pad[i])
		emit(0x48, 0x31, 0xd8, 0x48, 0x89, 0x87) // xor %rbx, %rax; mov %rax, place+8*i(%rdi)
		imm32(planterPlace + 8*uint32(i))
	}
	// A linear congruential generator that visits every page (Hull and
	// Dobell: the multiplier is 1 modulo 4, the increment odd).
	emit(0x4f, 0x8d, 0x84, 0x80) // lea 12345(%r8,%r8,4), %r8
	imm32(12345)
	emit(0x41, 0x81, 0xe0) // and $pages-1, %r8d
	imm32(pages - 1)
	emit(0x41, 0xff, 0xc9, 0x0f, 0x85) // dec %r9d; jnz next
	imm32(uint32(next - len(code) - 4))
	emit(0x66, 0xba, 0xf8, 0x03) // mov $0x3f8, %dx
	for _, b := range []byte(plantedLine + "\n") {
		say(b)
	}
	if once {
		emit(0xeb, 0xfe) // jmp .
	}
	emit(0xe9) // jmp round
	imm32(uint32(round - len(code) - 4))
	return code
}

// plantedLine is what the planter says after a round.
const plantedLine = "planted"

// maskedWords are the four words of a masked canary.
func maskedWords(masked string) (w [4]uint64) {
	for i := range w {
		v, err := strconv.ParseUint(masked[16*i:16*i+16], 16, 64)
		if err != nil {
			panic(err)
		}
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], v)
		w[i] = binary.LittleEndian.Uint64(b[:])
	}
	return w
}

// pads are the words that mask a canary: what zeros unmask to.
func pads() (w [4]uint64) {
	zero, err := canary.Parse(string(bytes.Repeat([]byte("0"), 2*canary.Size)))
	if err != nil {
		panic(err)
	}
	var b [canary.Size]byte
	zero.Plant(b[:])
	for i := range w {
		w[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return w
}

// kernelELF wraps code as the one segment of a kernel, at its entry point.
func kernelELF(code []byte) []byte {
	const headers = 64 + 56
	h := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Entry: planterEntry, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1,
	}
	p := elf.Prog64{
		Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Off: headers,
		Vaddr: planterEntry, Paddr: planterEntry, Filesz: uint64(len(code)), Memsz: memory.PageSize, Align: memory.PageSize,
	}
	var b bytes.Buffer
	for _, v := range []any{h, p, code} {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			panic(err) // of fixed size, into memory
		}
	}
	return b.Bytes()
}
