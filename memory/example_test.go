package memory_test

import (
	"errors"
	"fmt"
	"log"

	"offmap/memory"
)

// RAM of 4 GiB, as a PC has it, with a hole below 4 GiB. The kernel allocates
// only what is used: a page, or a huge page.
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
	fmt.Printf("%s, less than half populated: %v, %v\n", text, populated < layout.Size()/2, err)

	_, err = ram.ReadAt(text, memory.HoleStart)
	fmt.Println("in the hole:", errors.Is(err, memory.ErrHole))
	// Output:
	// hello, less than half populated: true, <nil>
	// in the hole: true
}
