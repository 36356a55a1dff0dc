//go:build embed

package initramfs

import _ "embed"

// small is the program of the directory of that name.
//
//go:embed small.elf
var small []byte
