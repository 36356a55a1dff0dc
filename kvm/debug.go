package kvm

// Requests and constants for a debugger of the guest (api.rst 4.16 and 4.87).
const (
	kvmTranslate     = 0xc018ae85 // 4.16
	kvmSetGuestDebug = 0x4048ae9b // 4.87
)

// CapSetGuestDebug2 returns the flags that GuestDebug's Control may have
// (KVM_CAP_SET_GUEST_DEBUG2, Linux 5.13).
const CapSetGuestDebug2 Cap = 195

// Flags of GuestDebug's Control (KVM_GUESTDBG_*).
const (
	DebugEnable     uint32 = 1 << 0
	DebugSingleStep uint32 = 1 << 1
	DebugUseSWBP    uint32 = 1 << 16 // INT3 ends Run
	DebugUseHWBP    uint32 = 1 << 17 // the guest runs with DR in place of its own debug registers
	DebugInjectDB   uint32 = 1 << 18 // the guest gets a #DB when it runs next
	DebugInjectBP   uint32 = 1 << 19 // the guest gets a #BP when it runs next
	DebugBlockIRQ   uint32 = 1 << 20 // no interrupts while single-stepping (Linux 5.15)
)

// Vectors of the exceptions for which an ExitDebug comes: Exit's Code.
const (
	VectorDB = 1
	VectorBP = 3
)

// GuestDebug is struct kvm_guest_debug: for what the guest ends Run with ExitDebug.
type GuestDebug struct {
	Control uint32
	_       uint32
	DR      [8]uint64 // debug registers for DebugUseHWBP: 0 to 3 and 7
}

// translation is struct kvm_translation.
type translation struct {
	linearAddress   uint64
	physicalAddress uint64
	valid           uint8
	_               uint8 // writeable
	_               uint8 // usermode
	_               [5]uint8
}

// SetGuestDebug says for what the guest ends Run (api.rst 4.87). A Control of 0 gives
// the guest its own debugging back.
func (c *VCPU) SetGuestDebug(d GuestDebug) error {
	return c.call("KVM_SET_GUEST_DEBUG", ioctlStruct(c.fd.n, kvmSetGuestDebug, &d))
}

// Translate translates a linear address as the vCPU would now, by the guest's page
// tables (api.rst 4.16). It doesn't check rights of access. Without a translation it
// returns false.
func (c *VCPU) Translate(linear uint64) (gpa uint64, ok bool, err error) {
	t := translation{linearAddress: linear}
	err = c.call("KVM_TRANSLATE", ioctlStruct(c.fd.n, kvmTranslate, &t))
	return t.physicalAddress, t.valid != 0, err
}
