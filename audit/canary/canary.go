package canary

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"golang.org/x/sys/unix"
)

// Size is the length of a canary in bytes. Eight bytes of other data in a large
// RAM may equal it by chance, 32 bytes don't. And no context switch saves 32 bytes
// of it in a row, since a search has one word in a register at a time.
const Size = 32

// The pad that masks every canary: clear text = masked XOR pad. It is public
// and fixed. It only has to make the masked bytes, copies of which are in console
// buffers on the host, differ from the clear text in the guest. Its words are
// constants, so that the compiler makes them operands of instructions: memory
// holds no clear text while one is computed.
const (
	pad0 uint64 = 0x9d1ac6b4e57f2083
	pad1 uint64 = 0x3be8740f61d5924e
	pad2 uint64 = 0xc2750d9838ae4bf1
	pad3 uint64 = 0x5f946e23da01b7cc
)

// Canary is what a scan looks for. It holds the masked bytes only, as four
// little-endian words; no function returns the clear text.
type Canary struct {
	masked [4]uint64
}

// New makes a canary from the kernel's random numbers. It blocks until the
// kernel has seeded its generator.
func New() (Canary, error) {
	var b [Size]byte
	// A request of up to 256 bytes is whole or fails (getrandom(2)); EINTR
	// can only come while the generator is still unseeded.
	for {
		_, err := unix.Getrandom(b[:], 0)
		if err == nil {
			return fromMasked(b[:]), nil
		}
		if err != unix.EINTR {
			return Canary{}, fmt.Errorf("getrandom: %w", err)
		}
	}
}

// Parse parses what String returns: 64 hexadecimal digits.
func Parse(s string) (Canary, error) {
	if len(s) != 2*Size {
		return Canary{}, fmt.Errorf("canary of %d characters: want %d hexadecimal digits", len(s), 2*Size)
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		return Canary{}, fmt.Errorf("canary: %w", err)
	}
	return fromMasked(b), nil
}

func fromMasked(b []byte) Canary {
	var c Canary
	for i := range c.masked {
		c.masked[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return c
}

// String returns the masked bytes in hexadecimal.
func (c Canary) String() string {
	var b [Size]byte
	for i, w := range c.masked {
		binary.LittleEndian.PutUint64(b[8*i:], w)
	}
	return hex.EncodeToString(b[:])
}

// Plant stores the clear text in the first Size bytes of dst, word by word
// from a general register: through no buffer, and through no vector register,
// which a VM exit would save to the host's memory as 32 adjacent bytes.
//
//go:noinline
func (c *Canary) Plant(dst []byte) {
	_ = dst[Size-1]
	binary.LittleEndian.PutUint64(dst[0:], c.masked[0]^pad0)
	binary.LittleEndian.PutUint64(dst[8:], c.masked[1]^pad1)
	binary.LittleEndian.PutUint64(dst[16:], c.masked[2]^pad2)
	binary.LittleEndian.PutUint64(dst[24:], c.masked[3]^pad3)
}

// In reports whether b, of at least Size bytes, starts with the clear text.
func (c *Canary) In(b []byte) bool {
	_ = b[Size-1]
	return binary.LittleEndian.Uint64(b[0:])^pad0 == c.masked[0] &&
		binary.LittleEndian.Uint64(b[8:])^pad1 == c.masked[1] &&
		binary.LittleEndian.Uint64(b[16:])^pad2 == c.masked[2] &&
		binary.LittleEndian.Uint64(b[24:])^pad3 == c.masked[3]
}

// step is the alignment, in bytes, at which the search looks. Plant's callers
// align to 64; copies of a page or of a structure keep at least 8.
const step = 8

// Find appends to offs the offset of every copy of the clear text in b that
// is aligned to step, in ascending order.
func (c *Canary) Find(b []byte, offs []int) []int {
	for _, m := range newSet([]Canary{*c}).find(b, nil) {
		offs = append(offs, m.at)
	}
	return offs
}

// Word returns the i-th of the eight 32-bit words of the clear text. The caller
// should keep it in a register.
func (c *Canary) Word(i int) uint32 {
	w := c.masked[i/2] ^ [...]uint64{pad0, pad1, pad2, pad3}[i/2]
	return uint32(w >> (32 * (i % 2)))
}

// Masked returns the masked words, for a program that isn't in Go: a word of the
// clear text is the one of Masked XOR the one of Pad.
func (c Canary) Masked() [4]uint64 { return c.masked }

// Pad returns the pad, which all canaries share.
func Pad() [4]uint64 { return [4]uint64{pad0, pad1, pad2, pad3} }
