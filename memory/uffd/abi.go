package uffd

// The part of userfaultfd's ABI that is used here, from
// include/uapi/linux/userfaultfd.h. A test holds it against the kernel's
// headers.

const (
	apiVersion  = 0xaa // UFFD_API
	pageSize    = 4096
	messageSize = 32
)

// Requests.
const (
	ioctlNew      = 0xaa00     // USERFAULTFD_IOC_NEW, of the device
	ioctlAPI      = 0xc018aa3f // UFFDIO_API
	ioctlRegister = 0xc020aa00 // UFFDIO_REGISTER
	ioctlWake     = 0x8010aa02 // UFFDIO_WAKE
	ioctlZeropage = 0xc020aa04 // UFFDIO_ZEROPAGE
	ioctlContinue = 0xc020aa07 // UFFDIO_CONTINUE
)

// Bits in registerArg.ioctls.
const (
	numWake     = 2 // _UFFDIO_WAKE
	numZeropage = 4 // _UFFDIO_ZEROPAGE
	numContinue = 7 // _UFFDIO_CONTINUE
)

// Features, modes and events.
const (
	featureMissingShmem = 1 << 5
	featureMinorShmem   = 1 << 10

	modeMissing = 1 << 0
	modeMinor   = 1 << 2

	eventPagefault = 0x12
)

// apiArg is struct uffdio_api.
type apiArg struct{ api, features, _ uint64 }

// rangeArg is struct uffdio_range.
type rangeArg struct{ start, len uint64 }

// registerArg is struct uffdio_register.
type registerArg struct{ start, len, mode, ioctls uint64 }

// mapArg is struct uffdio_continue, and struct uffdio_zeropage, which is like
// it.
type mapArg struct {
	start, len, mode uint64
	mapped           int64
}

// message is struct uffd_msg with its pagefault arm.
type message struct {
	event   uint8
	_       [7]uint8
	flags   uint64
	address uint64
	_       uint64
}

// Requests returns the ioctl requests for a range that is registered.
func Requests() []uint64 { return []uint64{ioctlWake, ioctlZeropage, ioctlContinue} }
