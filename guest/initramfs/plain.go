//go:build !embed

package initramfs

// small is empty because `make` didn't build this program: it then serves as the
// guests' userland itself.
var small string
