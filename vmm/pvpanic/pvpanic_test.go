package pvpanic

import (
	"testing"

	"offmap/internal/abitest"
	"offmap/vmm/bus"
)

func TestRegister(t *testing.T) {
	for v, want := range map[byte]int{0: 0, 1: 1, 2: 1, 3: 1, 4: 0, 0xfc: 0, 0xff: 1} {
		n := 0
		var b bus.Bus
		if err := b.Add("pvpanic", Port, Size, New(func() { n++ })); err != nil {
			t.Fatal(err)
		}
		b.Write(Port, []byte{v})
		if n != want {
			t.Errorf("%#x: told %d times, want %d", v, n, want)
		}
		p := []byte{0xaa}
		if b.Read(Port, p); p[0] != 3 {
			t.Errorf("after %#x the register reads %#x, want the events 3", v, p[0])
		}
	}
}

func TestABI(t *testing.T) {
	abitest.Compare(t, "#include <misc/pvpanic.h>\n", []abitest.Entry{
		{C: "PVPANIC_PANICKED", Want: panicked},
		{C: "PVPANIC_CRASH_LOADED", Want: crashLoaded},
	})
}
