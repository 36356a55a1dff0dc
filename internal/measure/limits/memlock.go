package limits

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"offmap/internal/process/signals"
	"offmap/memory"
)

// memlockPages is the RLIMIT_MEMLOCK of the checks' children.
const memlockPages = 16

// memlockLimits are about RLIMIT_MEMLOCK. Kernels check it in two ways: at mmap(2)
// and per process, or at the first touch and per user.
func memlockLimits(b memory.Backend) []Limit {
	return []Limit{
		{
			ID:       "memlock",
			Title:    "Secret mappings can't exceed RLIMIT_MEMLOCK",
			Source:   sourceCommit,
			Link:     linkCommit,
			How:      "A process without CAP_IPC_LOCK, whose limit is 16 pages, maps 17 pages of secret memory and touches them one by one.",
			Expected: "mmap(2) refuses with EAGAIN",
			Means:    "It holds on kernels without commit 97d34aa65c29, which is in 7.3, and for stable kernels in 6.1.190-rc1 (as 1c549e054821) and 6.12.112-rc1. Measured: 6.1.176, 6.1.190, 6.12.111 and 6.18.44 are without it, refuse at mmap and let CAP_IPC_LOCK pass; 6.1.192, 6.12.113, 7.2.6 and 7.3.4 have it, and charge at the first touch. Where the limit holds, a VMM learns at mmap that guest RAM is too large. Elsewhere mmap takes any size and the limit strikes later (see memlock-touch): the VMM has to compare its limit with guest RAM itself before it starts the guest. offmap does.",
			check: func(ctx context.Context) (Observation, error) {
				r, err := tryMemlock(ctx, b, false)
				return Observation{Text: r.String(), Holds: r.Mmap == "EAGAIN"}, err
			},
		},
		{
			ID:       "memlock-touch",
			Title:    "A page is charged at its first touch, and past RLIMIT_MEMLOCK the touch is a SIGBUS",
			Source:   sourceCharge,
			Link:     linkCharge,
			How:      "As for memlock, in a child: pages are touched by read(2) into them, which fails where a store would raise SIGBUS; then the child stores to the first page that failed, with SIGBUS at its default.",
			Expected: "mmap works, 16 pages can be touched, the 17th touch is EFAULT for read(2) and SIGBUS for a store",
			Means:    "On such a kernel a guest that touches too much RAM kills its VMM, or makes KVM_RUN fail, at any time. A VMM needs a limit of its guest's RAM plus that of all other guests of the same user.",
			check: func(ctx context.Context) (Observation, error) {
				r, err := tryMemlock(ctx, b, false)
				return Observation{Text: r.String(), Holds: r.Touched <= memlockPages && r.Read == "EFAULT" && r.Store == "SIGBUS"}, err
			},
		},
		{
			ID:       "memlock-capability",
			Title:    "CAP_IPC_LOCK lifts the limit",
			Source:   sourceMlock,
			Link:     linkMlock,
			How:      "As for memlock, with CAP_IPC_LOCK.",
			Expected: "All 17 pages can be mapped and touched",
			Means:    "Where it doesn't hold, neither root nor CAP_IPC_LOCK helps: the limit itself must be raised (CAP_SYS_RESOURCE, limits.conf, LimitMEMLOCK=), and root without CAP_SYS_RESOURCE, as in a container, can't. memfd_secret(2) says that RLIMIT_MEMLOCK works as for mlock(2); on these kernels it doesn't.",
			check: func(ctx context.Context) (Observation, error) {
				r, err := tryMemlock(ctx, b, true)
				return Observation{Text: r.String(), Holds: r.Touched > memlockPages}, err
			},
		},
		{
			ID:       "memlock-user",
			Title:    "All processes of a user share one budget",
			Source:   sourceCharge,
			Link:     linkCharge,
			How:      "Two processes of one user, each with a limit of 16 pages, touch 16 pages of secret memory each and hold them.",
			Expected: "16 pages between the two",
			Means:    "Where it holds, guests of one user share the limit: give each guest a user of its own, or raise the limit so that it is enough for all. Where it doesn't, each process has the whole limit.",
			check:    func(ctx context.Context) (Observation, error) { return checkBudget(ctx, b) },
		},
	}
}

// memlockResult is the result of a process that maps and touches a page more than
// its limit.
type memlockResult struct {
	Mmap    string // errno of mmap
	Touched int    // pages
	Read    string // errno of read(2) into the page after those
	Store   string // signal of a store to it
}

func (r memlockResult) String() string {
	switch {
	case r.Mmap != "works":
		return fmt.Sprintf("mmap of %d pages %s", memlockPages+1, r.Mmap)
	case r.Read == "":
		return fmt.Sprintf("mmap works, all %d pages can be touched", r.Touched)
	}
	return fmt.Sprintf("mmap works, %d pages can be touched; the next is %s for read(2) and %s for a store", r.Touched, r.Read, r.Store)
}

// tryMemlock does so in a child.
func tryMemlock(ctx context.Context, b memory.Backend, capable bool) (r memlockResult, err error) {
	change, err := asNobody(capable)
	if err != nil {
		return r, err
	}
	status, err := ask(ctx, change, &r, "memlock", string(b))
	if err != nil {
		return r, err
	}
	if r.Read != "" {
		r.Store = "harmless"
		if status.Signaled() {
			r.Store = unix.SignalName(status.Signal())
		}
	}
	return r, nil
}

// asNobody changes a child's command to run without CAP_IPC_LOCK, or with only that
// capability. As root it runs it as a user who has no other processes, whose secret
// memory would count.
func asNobody(capable bool) (func(*exec.Cmd), error) {
	if os.Geteuid() != 0 {
		if capable {
			return nil, skipped("giving CAP_IPC_LOCK to a process takes root")
		}
		return nil, nil
	}
	// A user ID that no system gives to anybody, and no other run has.
	user := uint32(0x7f000000 + os.Getpid()%0xffff)
	return func(cmd *exec.Cmd) {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: user, Gid: user}
		if capable {
			cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_IPC_LOCK}
		}
	}, nil
}

// limitMemlock sets this process's RLIMIT_MEMLOCK for good.
func limitMemlock() error {
	const bytes = memlockPages * memory.PageSize
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: bytes, Max: bytes}); err != nil {
		return skipped("setrlimit RLIMIT_MEMLOCK to %d: %v", bytes, err)
	}
	return nil
}

// memlockTask maps and touches a page more than its limit. It may die of SIGBUS.
func memlockTask(say func(any) error, args []string) error {
	if err := limitMemlock(); err != nil {
		return err
	}
	b, size := memory.Backend(args[0]), (memlockPages+1)*memory.PageSize
	a, err := openArea(b, size)
	if err != nil {
		return err
	}
	err = a.mmap(size)
	r := memlockResult{Mmap: outcome(err)}
	if err != nil {
		return say(r)
	}
	n, err := a.populate()
	r.Touched = n / memory.PageSize
	if err == nil {
		return say(r)
	}
	r.Read = outcome(err)
	_, err = signals.Default(unix.SIGBUS)
	if err := errors.Join(say(r), err); err != nil {
		return err
	}
	a.mem[n] = 1
	return nil
}

// checkBudget has two processes of one user touch as many pages as they can.
func checkBudget(ctx context.Context, b memory.Backend) (o Observation, err error) {
	change, err := asNobody(false)
	if err != nil {
		return o, err
	}
	var pages [2]int
	for i := range pages {
		c, err := startChild(ctx, change, "hold", string(b))
		if err != nil {
			return o, err
		}
		defer c.end()
		if err := c.next(&pages[i]); err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("a child ended before it said how many pages it got")
			}
			return o, err
		}
	}
	return Observation{
		Text:  fmt.Sprintf("%d pages for the first process, %d for the second", pages[0], pages[1]),
		Holds: pages[0]+pages[1] <= memlockPages,
	}, nil
}

// holdTask touches as many pages as it can, reports how many, and holds them.
func holdTask(say func(any) error, args []string) error {
	if err := limitMemlock(); err != nil {
		return err
	}
	a, err := newArea(memory.Backend(args[0]), memlockPages*memory.PageSize)
	if err != nil {
		return err
	}
	defer a.Close()
	n, _ := a.populate() // how far it got is the answer
	if err := say(n / memory.PageSize); err != nil {
		return err
	}
	untilTold()
	return nil
}
