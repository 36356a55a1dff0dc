// Package memory is guest RAM by guest-physical address (GPA): where it lies, what
// holds it, and how a VMM and its devices read and write it. It does not know KVM;
// package attach puts RAM into KVM's slots.
//
// # Layout, RAM and Guest
//
// A Layout is the list of GPA ranges that are RAM. KVM's slots, the guest's e820
// map, every bounds check and the audit's ranges are made from this one list.
// NewLayout returns the layout of a PC, LayoutOf any other.
//
// A Backend says where RAM is at rest. Secret is memfd_secret(2) memory, which is
// not in the host kernel's direct map, and the zero value. Reserved is physical
// memory that the kernel was booted without. The others are ordinary memory.
// ParseBackend and Backends are for command lines.
//
// New makes RAM of a layout in a backend, and RAM.Close frees it. Pages are
// allocated by their first use. Devices and loaders get RAM as a Guest, which
// copies in and out and never shows a slice of guest memory.
//
// RAM.Residency tells of each page whether it is populated and whether the host
// kernel can read it; RAM.Populated counts them.
//
// # Errors
//
// An error is ErrUnavailable for errors.Is where this host lacks what was asked
// for, and says what to do. Of these, ErrSecretAbsent and ErrSecretDisabled say
// why there is no secret memory, ErrMemlock that RLIMIT_MEMLOCK is too low, and
// ErrTooLarge that the host hasn't got that much memory. An access that is not
// wholly in RAM is ErrHole. A list of regions that is no layout is refused with
// ErrNoRegions, ErrUnsorted, ErrOverlap or ErrUnaligned.
//
// # The process
//
// Pages of Secret count against RLIMIT_MEMLOCK, of all processes of the user
// together or of each alone, depending on the kernel. New therefore raises the
// limit of this process as far as it may: to infinity with CAP_SYS_RESOURCE, or
// else the soft limit to the hard one. KeepMemlock leaves the limit to the caller.
package memory
