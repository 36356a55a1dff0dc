package memory

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Memory of Reserved is mapped through /dev/mem. Without O_SYNC the kernel maps
// what isn't its own RAM write-back, as long as the MTRRs don't say otherwise
// (arch/x86/mm/pat/memtype.c), so it is as fast as other memory. The mapping is
// VM_PFNMAP, which KVM follows without GUP and GUP refuses; but /dev/mem lets
// /proc/PID/mem and ptrace read it all the same (mmap_mem_ops.access), and
// anyone with CAP_SYS_RAWIO can map it again.
//
// Guests share the ranges by open file description locks on the device node
// (F_OFD_SETLK, fcntl_locking(2)): a guest locks the addresses that it uses. The
// descriptor and the mapping both hold the lock, so that it lasts until the last of
// them is gone, also after SIGKILL. The locks of another node, such as that of a
// container with a devtmpfs of its own, are others.
const devMem = "/dev/mem"

// openReserved takes size bytes of a reserved range that nobody else has.
func openReserved(size uint64) (file, error) {
	ranges, err := ReservedRanges()
	if err != nil {
		return file{}, fmt.Errorf("backend %s: %w: %w", Reserved, lacking(reservedNeeds(false)), err)
	}
	var usable []PhysRange
	for _, r := range ranges {
		if r.Err == nil {
			usable = append(usable, r.PhysRange)
		}
	}
	if usable == nil {
		return file{}, noRange(size, ranges)
	}
	fd, err := unix.Open(devMem, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return file{}, fmt.Errorf("backend %s: %w: it takes root (CAP_SYS_RAWIO), a kernel with CONFIG_DEVMEM, and no lockdown: open %s: %w",
			Reserved, lacking(reservedNeeds(true)), devMem, err)
	}
	start, err := claim(usable, size, func(start, size uint64) (uint64, error) { return lockRange(fd, start, size) })
	if err == nil && start == 0 {
		err = noRange(size, ranges)
	}
	if err != nil {
		unix.Close(fd)
		return file{}, err
	}
	return file{fd, int64(start)}, nil
}

// claim locks size bytes of one of the ranges and returns their address, or 0 if
// none are free; address 0 never is. lock returns 0 if it locked the range, and
// otherwise the address at which to try next.
func claim(ranges []PhysRange, size uint64, lock func(start, size uint64) (next uint64, err error)) (uint64, error) {
	for _, r := range ranges {
		for at := max(r.Start, PageSize); at < r.End() && r.End()-at >= size; {
			next, err := lock(at, size)
			if err != nil || next == 0 {
				return at, err
			}
			at = max(at, (next+PageSize-1)&^(PageSize-1))
		}
	}
	return 0, nil
}

// lockRange is claim's lock, on an open /dev/mem.
func lockRange(fd int, start, size uint64) (next uint64, err error) {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: int64(start), Len: int64(size)}
	err = unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &lock)
	if err == nil {
		return 0, nil
	}
	if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) {
		return 0, fmt.Errorf("fcntl F_OFD_SETLK of %s on %s: %w", PhysRange{start, size}, devMem, err)
	}
	// Find the lock that is in the way. If it has gone meanwhile, try again.
	if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &lock); err != nil {
		return 0, fmt.Errorf("fcntl F_OFD_GETLK of %s on %s: %w", PhysRange{start, size}, devMem, err)
	}
	if lock.Type == unix.F_UNLCK {
		return start, nil
	}
	return uint64(lock.Start + lock.Len), nil
}

// noRange returns the error that says why no reserved range can be used, and what
// to boot with.
func noRange(size uint64, ranges []ReservedRange) error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("backend %s: %w: %w", Reserved, lacking(reservedNeeds(len(ranges) > 0)), fmt.Errorf(format, args...))
	}
	iomem, _ := os.ReadFile("/proc/iomem") // without it, the advice has no address
	word := suggestMemmap(size, parseIomem(string(iomem)))
	fix := fmt.Sprintf("boot this host with %s, in /etc/default/grub written %s", word, strings.Replace(word, "$", `\\\$`, 1))
	if len(ranges) == 0 {
		return refuse("no physical memory was set aside for it: %s", fix)
	}
	var have []string
	fits := false
	for _, r := range ranges {
		what := r.String()
		switch {
		case errors.Is(r.Err, errNoAddresses):
			return refuse("%w", r.Err)
		case r.Err != nil:
			what += " (can't be used: " + r.Err.Error() + ")"
		case r.Size >= size:
			what += " (too little of it is free of other guests)"
			fits = true
		}
		have = append(have, what)
	}
	if fits {
		fix = "end another guest, or " + fix
	}
	return refuse("%d KiB are wanted, and set aside for it is %s: %s", size>>10, strings.Join(have, ", "), fix)
}

// reservedRefused explains mmap's refusals: EPERM is a kernel that still takes
// the range for its own or is locked down, EINVAL one that has it mapped with
// another caching.
func reservedRefused(_ uint64, err error) error {
	return fmt.Errorf("backend %s: %w: %s refuses a range that was set aside (lockdown, or another user of it): %w",
		Reserved, lacking(reservedNeeds(true)), devMem, err)
}

// reservedNeeds says what backend reserved lacks here. ranges tells whether the
// kernel was booted with ranges set aside.
func reservedNeeds(ranges bool) string {
	const (
		word   = "boot parameter memmap=SIZE$ADDRESS"
		device = "root, and a kernel with /dev/mem that isn't locked down"
	)
	switch {
	case unix.Access(devMem, unix.R_OK|unix.W_OK) == nil:
		return word // or another range than those that are set aside
	case ranges:
		return device
	}
	return device + "; and then " + word
}
