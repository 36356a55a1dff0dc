//go:build !embed

package initramfs

// small isn't there: this program wasn't built by `make`, and is the guests'
// userland itself.
var small []byte
