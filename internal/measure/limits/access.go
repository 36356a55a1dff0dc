package limits

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"offmap/kvm"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/memory/uffd"
)

// accessLimits are about access to the pages.
func accessLimits(b memory.Backend) []Limit {
	return []Limit{
		{
			ID:       "direct-map",
			Title:    "The pages are taken out of the kernel's direct map",
			Source:   sourceCommit + "; XPFO did it for all user pages",
			Link:     linkCommit,
			How:      "A random canary is written to secret memory and another one to a memfd, and the whole direct map is searched for both through /proc/kcore.",
			Expected: "The memfd's canary is found, the secret one is not",
			Means:    "This is the purpose of secret guest RAM: code that reads the host's memory through the kernel's linear mapping, by a bug or on purpose, doesn't see the guest.",
			check:    func(ctx context.Context) (Observation, error) { return checkFound(ctx, b) },
		},
		{
			ID:       "gup-refused",
			Title:    "get_user_pages refuses secret memory",
			Source:   sourceCommit,
			Link:     linkCommit,
			How:      "Attacks of the audit on a child that holds the memory, by system calls that reach user memory by its pages (GUP) and not by its addresses: a write with O_DIRECT, a send with MSG_ZEROCOPY, vmsplice(2), process_vm_readv(2), a futex that may be shared, and /proc/PID/mem. Each is also made on a child with a memfd.",
			Expected: "EFAULT for each, EIO for /proc/PID/mem",
			Means:    "No zero-copy of any kind to or from guest RAM: no O_DIRECT (see direct-io), no MSG_ZEROCOPY, no registered io_uring buffers and no VFIO (see dma). The kernel still copies to and from the memory for its owner, so a VMM's devices need no buffers of their own where one copy will do (see disk-in-page-cache).",
			check: func(ctx context.Context) (Observation, error) {
				return refused(b, []attempt{
					{"O_DIRECT", unix.EFAULT, by(ctx, "o-direct")},
					{"MSG_ZEROCOPY", unix.EFAULT, by(ctx, "msg-zerocopy")},
					{"vmsplice", unix.EFAULT, by(ctx, "vmsplice")},
					{"process_vm_readv", unix.EFAULT, by(ctx, "process-vm-readv")},
					{"shared futex", unix.EFAULT, by(ctx, "futex")},
					{"/proc/PID/mem", unix.EIO, by(ctx, "proc-mem")},
				})
			},
		},
		{
			ID:       "direct-io",
			Title:    "Files can't bypass the page cache to and from secret RAM",
			Source:   sourceCommit + ": GUP refuses the memory, and O_DIRECT hands the disk's driver the pages that GUP returns",
			Link:     linkCommit,
			How:      "pwrite(2) of secret memory to a file that is open with O_DIRECT, and pread(2) of the file. The same with a memfd.",
			Expected: "EFAULT for each",
			Means:    "A disk without the page cache (cache=none) takes bounce buffers in ordinary memory. offmap has a bounded number of them, keeps them out of swap and core dumps, wipes each after its request, and counts them as exposed. On tmpfs, whose O_DIRECT is a copy, secret memory works.",
			check:    func(context.Context) (Observation, error) { return checkDirect(b) },
		},
		{
			ID:       "kvm-refused",
			Title:    "KVM can't use secret memory as a slot",
			Source:   sourceCommit,
			Link:     linkCommit,
			How:      "A guest of four pages, in a slot that is a secret mapping, writes and reads its memory at CPL 3; the same guest runs in a memfd. At CPL 0 a KVM that interprets the guest's kernel (kvm_pvm) would read it with copy_from_user, which secret memory allows, and the check would prove nothing.",
			Expected: "The slot is taken, and the guest's first access ends KVM_RUN with EFAULT",
			Means:    "Stock KVM finds a slot's pages by GUP. So a secret guest needs the bridge (a view without GUP) or the window (ordinary copies of some of its pages). It was once reported that GUP lets pages through that the VMM had touched before. That was a bug of GUP-fast, fixed in 2024 (lore.kernel.org/all/20240326143210.291116-2-david@redhat.com).",
			check:    func(context.Context) (Observation, error) { return checkKVM(b) },
		},
		{
			ID:       "accidental-transmission",
			Title:    "A secret can't be passed into the kernel by accident",
			Source:   sourceCommit,
			Link:     linkCommit,
			How:      "write(2) of secret memory into a pipe and into a socket; the other end is read.",
			Expected: "Both are refused",
			Means:    "memfd_secret(2) says that pointers to secret memory can't be passed to system calls. The commit says that the process's own accesses (uaccess) still work, and they do: an ordinary write(2) copies the secret into kernel memory. A VMM that writes guest RAM to a disk, a socket or a log leaves copies in the page cache and in socket buffers, which are in the direct map.",
			check: func(context.Context) (Observation, error) {
				return refused(b, []attempt{
					{"write to a pipe", 0, func(a *area) error { return transmitted(a, unix.Pipe2) }},
					{"write to a socket", 0, func(a *area) error { return transmitted(a, socketPair) }},
				})
			},
		},
		{
			ID:       "no-userfaultfd",
			Title:    "userfaultfd doesn't take secret memory",
			Source:   sourceUserfault,
			Link:     linkUserfault,
			How:      "A secret mapping and a memfd's are registered for missing and minor faults.",
			Expected: "Refused: only anonymous memory, hugetlbfs and shared memory can be registered",
			Means:    "No post-copy migration into secret memory and no paging of it on demand by the VMM. The window therefore registers its ordinary side.",
			check: func(context.Context) (Observation, error) {
				return refused(b, []attempt{{"UFFDIO_REGISTER", 0, func(a *area) error {
					r, err := uffd.Open(a.addr(), attemptSize)
					if err == nil {
						r.Close()
					}
					return err
				}}})
			},
		},
	}
}

func checkFound(ctx context.Context, b memory.Backend) (o Observation, err error) {
	canaries, err := newCanaries(2)
	if err != nil {
		return o, err
	}
	for i, b := range []memory.Backend{b, memory.Memfd} {
		ram, err := planted(b, 1, canaries[i])
		if err != nil {
			return o, err
		}
		defer ram.Close()
	}
	hits, err := scanKcore(ctx, canaries)
	if err != nil {
		return o, err
	}
	if hits[1].Pages == 0 {
		return o, errors.New("the search doesn't find the memfd's canary either, so it proves nothing")
	}
	return Observation{
		Text:  fmt.Sprintf("canary found in %d pages, the memfd's in %d", hits[0].Pages, hits[1].Pages),
		Holds: hits[0].Pages == 0,
	}, nil
}

func checkDirect(b memory.Backend) (Observation, error) {
	f, err := diskFile()
	if err != nil {
		return Observation{}, err
	}
	defer f.Close()
	direct, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.O_RDWR|unix.O_CLOEXEC|unix.O_DIRECT, 0)
	if err != nil {
		return Observation{}, skipped("no O_DIRECT: %v", err)
	}
	defer unix.Close(direct)
	if err := f.Truncate(attemptSize); err != nil {
		return Observation{}, os.NewSyscallError("ftruncate", err)
	}
	return refused(b, []attempt{
		{"a write", unix.EFAULT, func(a *area) error { _, err := unix.Pwrite(direct, a.mem, 0); return err }},
		{"a read", unix.EFAULT, func(a *area) error { _, err := unix.Pread(direct, a.mem, 0); return err }},
	})
}

func checkKVM(b memory.Backend) (o Observation, err error) {
	sys, err := kvm.Open("")
	if err != nil {
		return o, skipped("%v", err)
	}
	defer sys.Close()
	if err := attach.ProbeDirect(sys, memory.Memfd); err != nil {
		return o, skipped("the guest doesn't run in ordinary memory either: %v", err)
	}
	layout, err := memory.LayoutOf(memory.Region{Size: attemptSize})
	if err != nil {
		return o, err
	}
	ram, err := memory.New(b, layout)
	if err != nil {
		return o, skipped("%v", err)
	}
	defer ram.Close()
	a, err := attach.Open(sys, ram, attach.Direct, attach.Options{})
	if err == nil {
		a.Close()
		return Observation{Text: "the guest runs, as in ordinary memory"}, nil
	}
	if _, refused := errors.AsType[*kvm.FaultError](err); refused {
		return Observation{Text: "EFAULT at the guest's first access; in ordinary memory it runs", Holds: true}, nil
	}
	return o, err
}

// diskFile makes an empty file without a name on a file system that isn't in
// memory.
func diskFile() (*os.File, error) {
	for _, dir := range []string{os.TempDir(), "/var/tmp", "."} {
		var fs unix.Statfs_t
		if unix.Statfs(dir, &fs) != nil || fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC {
			continue
		}
		if f, err := os.CreateTemp(dir, ".offmap-limits-*"); err == nil {
			os.Remove(f.Name())
			return f, nil
		}
	}
	return nil, skipped("no file system but tmpfs that this user can write to: set TMPDIR")
}

func socketPair(fds []int, flags int) error {
	s, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|flags, 0)
	copy(fds, s[:])
	return err
}

// transmitted sends a text in the area through a pair of descriptors, from the
// second to the first. It returns nil if the text arrived.
func transmitted(a *area, pair func([]int, int) error) error {
	var p [2]int
	if err := pair(p[:], unix.O_CLOEXEC); err != nil {
		return skipped("%v", err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	text := []byte("a secret")
	copy(a.mem, text)
	if _, err := unix.Write(p[1], a.mem[:len(text)]); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := unix.Read(p[0], got); err != nil {
		return err
	}
	if !bytes.Equal(got, text) {
		return fmt.Errorf("%q arrives", got)
	}
	return nil
}
