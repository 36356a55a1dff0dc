package kvm

import (
	"sync/atomic"
	"unsafe"
)

// RequestExit makes the current or the next Run return EINTR at once, until
// ClearExit (api.rst 5, immediate_exit). A guest that is running must also be
// sent a signal: the flag is only looked at on entry. Safe from any thread
// while the vCPU isn't closed.
func (c *VCPU) RequestExit() { c.setImmediateExit(1) }

// ClearExit takes RequestExit back.
func (c *VCPU) ClearExit() { c.setImmediateExit(0) }

// setImmediateExit stores the flag, a byte that KVM reads with READ_ONCE. Go
// has no atomic byte; the aligned word around it holds only what userspace
// writes (request_interrupt_window and padding), both always zero here.
func (c *VCPU) setImmediateExit(v uint32) {
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&c.run[0])), v<<(8*runImmediateExit))
}
