// Command small is only the userland of offmap's guests. The offmap binary can be
// that too, but it is four times as large, and a booting guest has its initramfs in
// RAM twice. So `make` embeds this program into offmap, and the initramfs gets it.
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
