package limits

import (
	"testing"
	"unsafe"

	"offmap/internal/abitest"
)

// TestDeviceABI holds requests and structures against the kernel's own headers.
func TestDeviceABI(t *testing.T) {
	const include = `
#include <linux/udmabuf.h>
`
	abitest.Compare(t, include, []abitest.Entry{
		{C: "UDMABUF_CREATE", Want: udmabufRequest},
		{C: "UDMABUF_FLAGS_CLOEXEC", Want: udmabufCloexec},
		{C: "sizeof(struct udmabuf_create)", Want: uint64(unsafe.Sizeof(udmabufArg{}))},
		{C: "offsetof(struct udmabuf_create, size)", Want: uint64(unsafe.Offsetof(udmabufArg{}.size))},
	})
}
