// Command small is the userland of offmap's guests alone. The offmap binary is
// that too, but four times as large, and a guest holds its initramfs twice as it
// boots: so `make` embeds this program into offmap to be put there instead.
package main

import (
	"fmt"
	"os"

	"offmap/guest/initramfs/userland"
)

func main() {
	p := userland.Program(os.Args)
	if p == nil {
		fmt.Fprintf(os.Stderr, "%s: not a command of a guest's userland\n", os.Args[0])
		os.Exit(2)
	}
	os.Exit(p())
}
