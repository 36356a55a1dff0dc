//go:build embed

package initramfs

import _ "embed"

// small is the program in the directory small.
//
//go:embed small.elf
var small string
