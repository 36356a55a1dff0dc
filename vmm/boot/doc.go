// Package boot puts a guest into RAM before its first instruction, and says in
// which state its vCPUs start.
//
// LinuxLoader and PayloadLoader are the guests of a machine of package vmm. Linux
// and Payload do the same for other users of guest RAM. Linux gets a kernel, its
// boot parameters, ACPI and MP tables; a payload is bare code, such as the guests
// of package payload.
//
// The package knows nothing of KVM. It writes RAM through memory.Guest, and CPU
// states are plain data. It trusts no image: it checks all that a kernel, an
// initrd or a payload claims against the layout of RAM before it copies a byte.
// RAM must read as zeros, as that of a new machine does, since zero pages are not
// written: so they cost nothing.
package boot
