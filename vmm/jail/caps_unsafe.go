package jail

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// setCapabilities sets those of all threads: a capability belongs to a thread.
func setCapabilities(header *unix.CapUserHeader, caps *[2]unix.CapUserData) error {
	return allThreads("capset", unix.SYS_CAPSET, uintptr(unsafe.Pointer(header)), uintptr(unsafe.Pointer(&caps[0])))
}
