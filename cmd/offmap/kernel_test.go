package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"offmap/guest/protocol"
)

// Guest code for testKernel.
var (
	hang   = []byte{0xeb, 0xfe}                                       // jmp .
	chat   = []byte{0x66, 0xba, 0xf8, 3, 0xb0, '.', 0xee, 0xeb, 0xfb} // mov dx, 0x3f8; 1: mov al, '.'; out dx, al; jmp 1b
	crash  = []byte{0x0f, 0x0b}                                       // ud2, and nothing to handle it
	dawdle = []byte{0xb9, 0, 0, 8, 0, 0xff, 0xc9, 0x75, 0xfc}         // mov ecx, 0x80000; 1: dec ecx; jnz 1b
)

// exitWithCode makes the guest end with an exit code.
func exitWithCode(code byte) []byte {
	return []byte{0x66, 0xba, protocol.ExitPort & 0xff, protocol.ExitPort >> 8, 0xb0, code, 0xee} // mov dx, ExitPort; mov al, code; out dx, al
}

// say makes the guest write text to its console.
func say(text string) []byte {
	code := []byte{0x66, 0xba, 0xf8, 3} // mov dx, 0x3f8
	for _, c := range []byte(text) {
		code = append(code, 0xb0, c, 0xee) // mov al, c; out dx, al
	}
	return code
}

// testKernel writes an ELF kernel with this code, and returns its path.
func testKernel(t *testing.T, code ...[]byte) string {
	t.Helper()
	const start, headers = 16 << 20, 64 + 56
	text := slices.Concat(code...)
	image := append([]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, make([]byte, 9)...)
	put := func(values ...any) {
		var err error
		for _, v := range values {
			if image, err = binary.Append(image, binary.LittleEndian, v); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(uint16(2), uint16(62), uint32(1), uint64(start), uint64(64), uint64(0), uint32(0)) // ET_EXEC, EM_X86_64
	put([]uint16{64, 56, 1, 0, 0, 0})
	size := uint64(len(text))
	put(uint32(1), uint32(5), []uint64{headers, start, start, size, size, 4096}) // PT_LOAD, R-X
	path := filepath.Join(t.TempDir(), "kernel.elf")
	if err := os.WriteFile(path, append(image, text...), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
