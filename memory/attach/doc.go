// Package attach puts guest RAM into KVM's memory slots. The way in which a
// backend's pages get there is called the attach:
//
//   - Direct: the backend's own mapping is the slot. KVM finds its pages with GUP
//     (get_user_pages), or without it where they are a guest_memfd's or those of
//     a PFNMAP mapping such as reserved memory's. Stock KVM refuses secret memory
//     that way, at the guest's first access.
//   - ViaBridge: the slot is a PFNMAP view of the secret pages, which the kernel
//     module in memory/kmod makes. KVM follows PFNMAP mappings without GUP.
//   - ViaWindow: the slot is ordinary memory, which holds copies of a bounded
//     number of the secret pages at a time. It needs no module; see package
//     window.
//
// A Pair is a backend with an attach. Pairs lists those that exist: ordinary
// memory has no attach but Direct. Pair.Pairs resolves Auto, and Parse reads names
// such as "secret+bridge".
//
// # Order of use
//
// A VM comes first (kvm.System.CreateVM), since the RAM of memory.GuestMemfd is
// tied to it. NewRAM makes the RAM. Open prepares an attach: the one that is asked
// for, or with Auto the strongest that works. It finds that out by trying, before
// any guest runs, and never from a kernel version. Attachment.Slots are then given
// to the VM, and devices and loaders use Attachment.Guest. To close, the vCPUs and
// the VM come first, then the Attachment, then the RAM. NewVM and VM.SetSlots do this for
// a VM without vCPUs.
//
// Attachment.Usage and Attachment.Residency tell how much of RAM is exposed, which
// means readable through the host kernel's direct map. A window can fail while
// the guest runs: Attachment.Failed tells when, and Attachment.Err why.
//
// CheckBackend and ProbeDirect try a backend without a guest that is to stay.
// CheckBridge tries the bridge's device.
//
// # Errors
//
// Open fails with a *RefusedError where no attach that may be used works. It lists
// each attach with the reason, wraps their errors, and is memory.ErrUnavailable
// for errors.Is. Other errors say that something went wrong. A secret backend is
// never replaced by an ordinary one. The bridge's errors wrap ErrBridgeMissing,
// ErrBridgeDenied or ErrBridgeABI, the window's uffd.ErrDenied or
// uffd.ErrUnsupported.
package attach
