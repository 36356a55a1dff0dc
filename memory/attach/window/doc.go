// Package window runs a guest whose RAM is in secret memory without a kernel
// module. KVM gets ordinary copies of a bounded number of its pages: the
// window.
//
// # How it works
//
// KVM's slots are a mapping of a memfd that has no pages at first. It is
// registered with userfaultfd. A guest's access to a missing page stops its
// vCPU and becomes an event for the pager, a few goroutines of this package:
//
//   - On a major fault, for which the page has no frame, the pager copies the
//     page from the secret memory, the store, to a frame of the memfd and maps
//     it. It reads ahead if the fault belongs to a sequential stream.
//   - On a minor fault, for which the page's frame is only unmapped, it maps
//     the frame and those around it again.
//   - Before the frames run out, it unmaps pages, copies them to the store,
//     wipes their frames and frees them.
//
// Package policy chooses which pages to fill and to evict. Devices access a page
// where it is, in its frame or in the store, and don't fault. Their files' bytes pass
// through a buffer in secret memory, so that no page waits for a disk.
//
// # Guarantees
//
// There are never more frames than Config.Size allows, the ones that are being
// filled or evicted included. A frame is wiped before it is freed, however the
// window ends: a process of package scrubber does it if this one is killed. No
// frame is swapped out. docs/window.md says what is not covered.
//
// # Locks
//
// evicting is taken before mu. mu protects the fields of Window below it. The
// pager makes pages busy and releases mu before a system call that concerns
// them; ReadAt and WriteAt hold mu while they copy within a page. Only the holder of
// evicting unmaps pages, so a page that it finds in state Unmapped is in fact unmapped.
package window
