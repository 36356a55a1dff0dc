package canary

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// fixed is a canary whose bytes are the same in every run.
var fixed = fromMasked([]byte("0123456789abcdef0123456789abcdef"))

func TestParse(t *testing.T) {
	good := strings.Repeat("0f", Size)
	for _, tt := range []struct {
		name, in string
		ok       bool
	}{
		{"lower case", good, true},
		{"upper case", strings.ToUpper(good), true},
		{"empty", "", false},
		{"a digit short", good[1:], false},
		{"a byte long", good + "00", false},
		{"not hexadecimal", "x" + good[1:], false},
		{"space", " " + good[1:], false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse(tt.in)
			if (err == nil) != tt.ok {
				t.Fatalf("Parse(%q): error %v, want success %t", tt.in, err, tt.ok)
			}
			if err == nil && c.String() != strings.ToLower(tt.in) {
				t.Errorf("String() = %q after Parse(%q)", c, tt.in)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(fixed.String())
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Parse(s)
		if err == nil && c.String() != strings.ToLower(s) {
			t.Errorf("String() = %q after Parse(%q)", c, s)
		}
	})
}

func TestNewIsRandom(t *testing.T) {
	a, err := New()
	if err != nil {
		t.Fatal(err)
	}
	b, err := New()
	if err != nil {
		t.Fatal(err)
	}
	if a == b || a == (Canary{}) {
		t.Errorf("two canaries: %v and %v", a, b)
	}
}

// TestPlantIsMasked holds that the clear text is not what the guest prints,
// in none of its words, and that it is what In looks for.
func TestPlantIsMasked(t *testing.T) {
	var clearText [Size]byte
	fixed.Plant(clearText[:])
	masked, _ := hex.DecodeString(fixed.String())
	for i := 0; i < Size; i += 8 {
		if bytes.Equal(clearText[i:i+8], masked[i:i+8]) {
			t.Errorf("word %d of the clear text is the masked one", i/8)
		}
	}
	if !fixed.In(clearText[:]) {
		t.Error("In does not see what Plant stored")
	}
	for i := range clearText {
		clearText[i] ^= 0x10
		if fixed.In(clearText[:]) {
			t.Errorf("In sees a canary with byte %d changed", i)
		}
		clearText[i] ^= 0x10
	}
}

// naiveFind is find in the plainest way: it unmasks and compares bytes.
func naiveFind(c Canary, b []byte) []int {
	var clearText [Size]byte
	c.Plant(clearText[:])
	var offs []int
	for i := 0; i+Size <= len(b); i += step {
		if bytes.Equal(b[i:i+Size], clearText[:]) {
			offs = append(offs, i)
		}
	}
	return offs
}

func TestFind(t *testing.T) {
	// Every aligned place in a buffer of a few cache lines and every length,
	// so that each copy stands once in each position of the unrolled loop.
	for length := 0; length <= 256; length += 4 {
		for at := 0; at+Size <= length; at += step {
			b := make([]byte, length)
			fixed.Plant(b[at:])
			if got := fixed.Find(b, nil); !slices.Equal(got, []int{at}) {
				t.Fatalf("planted at %d of %d bytes, found at %v", at, length, got)
			}
		}
	}
}

// FuzzFind scatters copies and near misses, and compares with naiveFind.
func FuzzFind(f *testing.F) {
	f.Add(uint64(1), uint16(4096), []byte{0, 4, 5, 9})
	f.Add(uint64(2), uint16(200), []byte{0, 1, 2, 3})
	f.Fuzz(func(t *testing.T, seed uint64, length uint16, places []byte) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		b := make([]byte, length)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		for _, p := range places {
			at := int(p) * step
			if at+Size > len(b) {
				continue
			}
			fixed.Plant(b[at:])
			if rnd.IntN(3) == 0 { // a near miss: only the first word fits
				w := b[at+8+8*rnd.IntN(3):]
				binary.LittleEndian.PutUint64(w, binary.LittleEndian.Uint64(w)+1)
			}
		}
		if got, want := fixed.Find(b, nil), naiveFind(fixed, b); !slices.Equal(got, want) {
			t.Errorf("found at %v, want %v", got, want)
		}
	})
}

func BenchmarkFind(b *testing.B) {
	buf := make([]byte, bufSize)
	for i := range buf {
		buf[i] = byte(rand.Uint32())
	}
	for _, n := range []int{1, 16} {
		b.Run(fmt.Sprintf("canaries=%d", n), func(b *testing.B) {
			list := make([]Canary, n)
			for i := range list {
				list[i].masked[0] = rand.Uint64()
			}
			s := newSet(list)
			b.SetBytes(bufSize)
			for b.Loop() {
				if len(s.find(buf, nil)) != 0 {
					b.Fatal("found in noise")
				}
			}
		})
	}
}
