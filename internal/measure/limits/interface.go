package limits

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"offmap/memory"
)

// interfaceLimits are about the system call and its file.
func interfaceLimits(b memory.Backend) []Limit {
	return []Limit{
		{
			ID:       "off-by-default",
			Title:    "memfd_secret is off unless the kernel is booted with secretmem.enable=1",
			Source:   sourceCommit,
			Link:     linkCommit,
			How:      "The system call is made, and the kernel's command line is searched for secretmem.enable. If it is there, the default doesn't show.",
			Expected: "ENOSYS, with no secretmem.enable on the command line",
			Means:    "Linux 5.14 to 6.4 need the boot parameter; 6.5 and newer have it on (commit b758fe6df50d), where secretmem.enable=0 switches it off. ENOSYS alone doesn't tell a kernel that has it switched off from one without it: only the first has /sys/module/secretmem/parameters/enable.",
			check: func(context.Context) (Observation, error) {
				fd, err := memory.MemfdSecret(unix.O_CLOEXEC)
				if err == nil {
					unix.Close(fd)
				}
				line, _ := os.ReadFile("/proc/cmdline")
				return judgeDefault(err, string(line))
			},
		},
		{
			ID:       "no-opt-in",
			Title:    "No flag opens secret memory to the kernel",
			Source:   sourceCommit,
			Link:     linkCommit,
			How:      "memfd_secret(2) is called with each of the 32 bits of its flags alone. memfd_create(2), which has flags, is the control.",
			Expected: "Only O_CLOEXEC is taken; the opt-in flags that the commit leaves for later don't exist",
			Means:    "There is no way to ask for secret memory that KVM or a device may use. The bridge is such an opt-in, made outside the kernel tree.",
			check: func(context.Context) (Observation, error) {
				return flagsTaken(create(b), unix.O_CLOEXEC)
			},
		},
		{
			ID:       "cloexec",
			Title:    "The close-on-exec flag is FD_CLOEXEC",
			Source:   sourceManual + ", at least up to man-pages 6.18",
			Link:     linkManual,
			How:      "memfd_secret(FD_CLOEXEC) is called, and then memfd_secret(O_CLOEXEC).",
			Expected: "FD_CLOEXEC works",
			Means:    "The kernel takes O_CLOEXEC. A VMM that follows the manual page gets EINVAL, and one that then leaves the flag out passes all of guest RAM to every program that it starts.",
			check: func(context.Context) (Observation, error) {
				return closesOnExec(create(b))
			},
		},
		{
			ID:       "size-once",
			Title:    "The size is set once",
			Source:   sourceCode,
			Link:     linkCode,
			How:      "ftruncate(2) of a secret file that has a size, to a larger one and to a smaller one; the same to a memfd.",
			Expected: "EINVAL for both",
			Means:    "Guest RAM can't grow or shrink in its file: memory hotplug takes another file and another slot.",
			check: func(context.Context) (Observation, error) {
				return refused(b, []attempt{
					{"growing", unix.EINVAL, func(a *area) error { return unix.Ftruncate(a.fd, 2*attemptSize) }},
					{"shrinking", unix.EINVAL, func(a *area) error { return unix.Ftruncate(a.fd, attemptSize/2) }},
				})
			},
		},
		{
			ID:       "no-file-io",
			Title:    "The file can be mapped, and nothing else",
			Source:   sourceCode,
			Link:     linkCode,
			How:      "pread(2), pwrite(2), sendfile(2) and opening it again through /proc/self/fd, on a secret file and on a memfd.",
			Expected: "Each is refused",
			Means:    "No snapshot by reading the file, no restore by writing it, no second opening with fewer rights: whoever has the descriptor has all of the guest's RAM, to read and to write.",
			check: func(context.Context) (Observation, error) {
				buf := make([]byte, memory.PageSize)
				return refused(b, []attempt{
					{"pread", 0, func(a *area) error { _, err := unix.Pread(a.fd, buf, 0); return err }},
					{"pwrite", 0, func(a *area) error { _, err := unix.Pwrite(a.fd, buf, 0); return err }},
					{"sendfile", 0, sendfile},
					{"open of /proc/self/fd/N", 0, func(a *area) error {
						fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", a.fd), unix.O_RDWR|unix.O_CLOEXEC, 0)
						if err == nil {
							unix.Close(fd)
						}
						return err
					}},
				})
			},
		},
		{
			ID:       "no-giving-back",
			Title:    "A page comes back only when the file's last reference goes",
			Source:   sourceCode,
			Link:     linkCode,
			How:      "MADV_REMOVE and fallocate(FALLOC_FL_PUNCH_HOLE) on a populated page of secret memory and of a memfd; the page's content shows afterwards whether it is gone.",
			Expected: "Both refused",
			Means:    "No balloon and no free page reporting: a page that the guest has touched stays allocated, off the direct map and charged to RLIMIT_MEMLOCK until the guest is gone. MADV_DONTNEED, which some kernels take, only unmaps the page; the file keeps it.",
			check: func(context.Context) (Observation, error) {
				return refused(b, []attempt{
					{"MADV_REMOVE", 0, func(a *area) error {
						return emptied(a, unix.Madvise(a.mem, unix.MADV_REMOVE))
					}},
					{"punching a hole", 0, func(a *area) error {
						return emptied(a, unix.Fallocate(a.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, memory.PageSize))
					}},
				})
			},
		},
		{
			ID:       "not-turned",
			Title:    "Memory is made secret, and can't be turned into secret memory later",
			Source:   sourceReshetova + "; MAP_EXCLUSIVE",
			Link:     linkReshetova,
			How:      "The proposals' calls are made: mmap(2) with MAP_EXCLUSIVE (0x200000) for private anonymous memory, and every madvise(2) advice from 26 to 63, which no kernel had when this was written, for MADV_SECRET. process_vm_readv(2), which secret memory refuses, shows whether memory became secret.",
			Expected: "mmap ignores the flag, madvise doesn't know the advice, and the memory stays ordinary",
			Means:    "Guest RAM has to be secret from the start: a running guest can't be hidden later, and neither can an allocator's memory.",
			check: func(context.Context) (Observation, error) {
				return turned(mapExclusive, adviseSecret)
			},
		},
	}
}

// judgeDefault judges memfd_secret's answer and the kernel's command line.
func judgeDefault(err error, cmdline string) (Observation, error) {
	set := ""
	for _, word := range strings.Fields(cmdline) {
		if strings.HasPrefix(word, "secretmem.enable") {
			set = word // the last one counts
		}
	}
	if set != "" {
		return Observation{}, skipped("booted with %s, so the default doesn't show", set)
	}
	const text = ", with no secretmem.enable on the command line"
	switch {
	case err == nil:
		return Observation{Text: "memfd_secret works" + text}, nil
	case errors.Is(err, memory.ErrSecretDisabled):
		return Observation{Text: "ENOSYS" + text, Holds: true}, nil
	}
	return Observation{}, skipped("%v", err)
}

// create is the system call that makes a file of the backend.
func create(b memory.Backend) func(flags int) (int, error) {
	if b == memory.Secret {
		return memory.MemfdSecret
	}
	return func(flags int) (int, error) { return unix.MemfdCreate("offmap-limits", flags) }
}

// closesOnExec tries both flags that could mean close-on-exec.
func closesOnExec(create func(flags int) (int, error)) (o Observation, err error) {
	var seen []string
	for _, f := range []struct {
		name string
		flag int
	}{{"FD_CLOEXEC", unix.FD_CLOEXEC}, {"O_CLOEXEC", unix.O_CLOEXEC}} {
		fd, err := create(f.flag)
		if err == nil {
			unix.Close(fd)
		}
		if errors.Is(err, memory.ErrUnavailable) {
			return o, skipped("%v", err)
		}
		seen = append(seen, f.name+" "+outcome(err))
		o.Holds = o.Holds || f.flag == unix.FD_CLOEXEC && err == nil
	}
	o.Text = strings.Join(seen, ", ")
	return o, nil
}

// flagsTaken makes a file with each flag alone, of which only one should work.
func flagsTaken(create func(flags int) (int, error), only int) (Observation, error) {
	var taken []string
	o := Observation{Holds: true}
	for bit := range 32 {
		fd, err := create(1 << bit)
		switch {
		case err == nil:
			unix.Close(fd)
			taken = append(taken, fmt.Sprintf("%#x", 1<<bit))
			o.Holds = o.Holds && 1<<bit == only
		case errors.Is(err, memory.ErrUnavailable):
			return o, skipped("%v", err)
		}
	}
	o.Holds = o.Holds && len(taken) == 1
	o.Text = fmt.Sprintf("of 32 flags %s taken (O_CLOEXEC is %#x)", strings.Join(taken, ", "), only)
	return o, nil
}

// emptied returns the error of a call that should have freed the area's first page,
// or an error if the page, which began with 1, still has its content.
func emptied(a *area, err error) error {
	if err == nil && a.mem[0] != 0 {
		return errors.New("returns 0, but the page is still there")
	}
	return err
}

// sendfile sends a page of the file into a socket.
func sendfile(a *area) error {
	s, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return skipped("socketpair: %v", err)
	}
	defer unix.Close(s[0])
	defer unix.Close(s[1])
	var off int64
	_, err = unix.Sendfile(s[0], a.fd, &off, memory.PageSize)
	return err
}

// turned makes attempts to turn ordinary memory into secret memory. Each returns
// the kernel's answer.
func turned(attempts ...func(*area) string) (Observation, error) {
	o := Observation{Holds: true}
	var seen []string
	for _, try := range attempts {
		a, err := newPopulated(memory.Anon, attemptSize)
		if err != nil {
			return o, err
		}
		defer a.Close()
		said := try(a)
		switch err := a.readRemotely(); {
		case err == nil:
			said += ", stays ordinary"
		case errors.Is(err, unix.EFAULT):
			said += ", IS SECRET"
			o.Holds = false
		default:
			return o, fmt.Errorf("process_vm_readv of this process: %w", err)
		}
		seen = append(seen, said)
	}
	o.Text = strings.Join(seen, "; ")
	return o, nil
}

// mapExclusive replaces the area by a mapping with the proposal's flag.
func mapExclusive(a *area) string {
	const exclusive = 0x200000
	mem, err := unix.Mmap(-1, 0, attemptSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|exclusive)
	if err != nil {
		return "MAP_EXCLUSIVE " + outcome(err)
	}
	unix.Munmap(a.mem)
	a.mem = mem
	a.mem[0] = 1 // process_vm_readv makes it present if this doesn't
	return "MAP_EXCLUSIVE is ignored"
}

// adviseSecret gives every advice that MADV_SECRET could be.
func adviseSecret(a *area) string {
	const first, last = 26, 63
	var taken []string
	for advice := first; advice <= last; advice++ {
		if err := unix.Madvise(a.mem, advice); !errors.Is(err, unix.EINVAL) {
			taken = append(taken, fmt.Sprintf("%d %s", advice, outcome(err)))
		}
	}
	if len(taken) == 0 {
		return "advice 26 to 63 EINVAL"
	}
	return "advice " + strings.Join(taken, ", ")
}
