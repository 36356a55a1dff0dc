package uffd

import (
	"testing"
	"unsafe"

	"offmap/internal/abitest"
)

// TestABI holds every request number, size and offset against the kernel's own
// headers.
func TestABI(t *testing.T) {
	var (
		api apiArg
		rng rangeArg
		reg registerArg
		m   mapArg
		msg message
	)
	abitest.Compare(t, "#include <linux/ioctl.h>\n#include <linux/userfaultfd.h>\n", []abitest.Entry{
		{C: "UFFD_API", Want: apiVersion},
		{C: "USERFAULTFD_IOC_NEW", Want: ioctlNew},
		{C: "UFFDIO_API", Want: ioctlAPI},
		{C: "UFFDIO_REGISTER", Want: ioctlRegister},
		{C: "UFFDIO_WAKE", Want: ioctlWake},
		{C: "UFFDIO_ZEROPAGE", Want: ioctlZeropage},
		{C: "UFFDIO_CONTINUE", Want: ioctlContinue},
		{C: "_UFFDIO_WAKE", Want: numWake},
		{C: "_UFFDIO_ZEROPAGE", Want: numZeropage},
		{C: "_UFFDIO_CONTINUE", Want: numContinue},
		{C: "UFFD_FEATURE_MISSING_SHMEM", Want: featureMissingShmem},
		{C: "UFFD_FEATURE_MINOR_SHMEM", Want: featureMinorShmem},
		{C: "UFFDIO_REGISTER_MODE_MISSING", Want: modeMissing},
		{C: "UFFDIO_REGISTER_MODE_MINOR", Want: modeMinor},
		{C: "UFFD_EVENT_PAGEFAULT", Want: eventPagefault},
		{C: "sizeof(struct uffdio_api)", Want: uint64(unsafe.Sizeof(api))},
		{C: "offsetof(struct uffdio_api, features)", Want: uint64(unsafe.Offsetof(api.features))},
		{C: "sizeof(struct uffdio_range)", Want: uint64(unsafe.Sizeof(rng))},
		{C: "sizeof(struct uffdio_register)", Want: uint64(unsafe.Sizeof(reg))},
		{C: "offsetof(struct uffdio_register, mode)", Want: uint64(unsafe.Offsetof(reg.mode))},
		{C: "offsetof(struct uffdio_register, ioctls)", Want: uint64(unsafe.Offsetof(reg.ioctls))},
		{C: "sizeof(struct uffdio_continue)", Want: uint64(unsafe.Sizeof(m))},
		{C: "offsetof(struct uffdio_continue, mode)", Want: uint64(unsafe.Offsetof(m.mode))},
		{C: "offsetof(struct uffdio_continue, mapped)", Want: uint64(unsafe.Offsetof(m.mapped))},
		{C: "sizeof(struct uffdio_zeropage)", Want: uint64(unsafe.Sizeof(m))},
		{C: "offsetof(struct uffdio_zeropage, mode)", Want: uint64(unsafe.Offsetof(m.mode))},
		{C: "offsetof(struct uffdio_zeropage, zeropage)", Want: uint64(unsafe.Offsetof(m.mapped))},
		{C: "sizeof(struct uffd_msg)", Want: messageSize},
		{C: "sizeof(struct uffd_msg)", Want: uint64(unsafe.Sizeof(msg))},
		{C: "offsetof(struct uffd_msg, event)", Want: uint64(unsafe.Offsetof(msg.event))},
		{C: "offsetof(struct uffd_msg, arg.pagefault.flags)", Want: uint64(unsafe.Offsetof(msg.flags))},
		{C: "offsetof(struct uffd_msg, arg.pagefault.address)", Want: uint64(unsafe.Offsetof(msg.address))},
	})
}
