package memory_test

import (
	"errors"
	"fmt"
	"log"

	"offmap/memory"
)

// RAM of 4 GiB, as a PC has it, with a hole below 4 GiB. Nothing is allocated
// but the pages that are used.
func Example() {
	layout, err := memory.NewLayout(4 << 30)
	if err != nil {
		log.Fatal(err)
	}
	ram, err := memory.New(memory.Anon, layout)
	if errors.Is(err, memory.ErrTooLarge) {
		layout, _ = memory.NewLayout(memory.MinSize)
		ram, err = memory.New(memory.Anon, layout)
	}
	if err != nil {
		log.Fatal(err)
	}
	defer ram.Close()

	if _, err := ram.WriteAt([]byte("hello"), 0x1000); err != nil {
		log.Fatal(err)
	}
	text := make([]byte, 5)
	if _, err := ram.ReadAt(text, 0x1000); err != nil {
		log.Fatal(err)
	}
	populated, err := ram.Populated()
	fmt.Printf("%s, %d bytes populated, %v\n", text, populated, err)

	_, err = ram.ReadAt(text, memory.HoleStart)
	fmt.Println("in the hole:", errors.Is(err, memory.ErrHole))
	// Output:
	// hello, 4096 bytes populated, <nil>
	// in the hole: true
}
