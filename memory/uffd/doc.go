// Package uffd is userfaultfd(2) for one range of shared memory. A page fault in the
// range stops the thread that took it and becomes an event, until somebody maps the
// page. See Documentation/admin-guide/mm/userfaultfd.rst.
//
// It has what a pager of memfd memory needs: missing faults, where the file has no
// page, and minor faults, where the file has a page that isn't mapped.
//
// # Order of use
//
// Open registers the range. Range.Wait waits for events, Range.Read takes them, and
// Range.At tells where in the range a fault is. Range.Continue maps pages of the
// file and Range.Zero pages of zeros; both wake the threads that wait for them, as
// Range.Wake does without mapping anything. Range.Close gives the range back.
// Offsets are in bytes from the start of the range.
//
// Go code must never touch the memory. The thread that takes a fault stops until
// the fault is answered, and the garbage collector can't stop its goroutine
// meanwhile: a pager in Go would wait for the garbage collector, and that for the
// pager.
//
// # Errors
//
// Open and Probe wrap ErrDenied where this process has no right to the kernel's own
// faults, which KVM's are, and ErrUnsupported where the kernel lacks the feature. A
// refusal by a seccomp profile or a security module is a *sandbox.Error. All of
// them are memory.ErrUnavailable for errors.Is.
package uffd
