package probe

import (
	"context"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"offmap/kvm"
	"offmap/memory"
	"offmap/memory/attach"
)

// Status is the result of a check.
type Status string

// The results. With Fail, the guest that was asked for can't run. With Warn, other
// guests can't, or less of their RAM is hidden. A check that can't be made on this
// host is Skip.
const (
	OK   Status = "ok"
	Warn Status = "warn"
	Fail Status = "fail"
	Skip Status = "skip"
)

// Check is the result of one check. Fix is a command to paste. It is empty if nothing
// is wrong, or if nothing can be done from here, such as about a container's seccomp
// profile; Detail then says so.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Detail string `json:"detail"`
	Fix    string `json:"fix"`
}

// Works says whether an attach works for secret memory here, and why not.
type Works struct {
	Works  bool   `json:"works"`
	Reason string `json:"reason"`
}

// Report is everything that was found.
type Report struct {
	Checks []Check `json:"checks"`
	// Attach is the part of Backends about secret memory.
	Attach   map[attach.Method]Works `json:"attach"`
	Backends []Trial                 `json:"backends"`
}

// Config describes the wanted guest, and where to look.
type Config struct {
	Backend memory.Backend
	Memory  uint64 // bytes
	// Root is the file system with /proc, /sys and others to read; nil is this
	// host's. Trials are made on this host in any case.
	Root fs.FS
	// KVM is the device node; "" is kvm.DefaultPath.
	KVM string
}

// host is the state that the checks share.
type host struct {
	files
	cfg   Config
	sys   *kvm.System // nil without KVM
	limit unix.Rlimit // RLIMIT_MEMLOCK as it was
	log   string      // the kernel's, as far as it can be read

	hugePages      func() (memory.HugePages, error)
	reservedRanges func() ([]memory.ReservedRange, error)
	holdReserved   func() (release func() error, err error)
	removedPool    func() (memory.RemovedPool, error)
}

// Run makes all checks for the guest that cfg describes. It changes nothing but this
// process's RLIMIT_MEMLOCK, which it raises as far as it may, as a guest with secret
// RAM would. For memory.Removed, and for no other backend, it takes memory out of the
// kernel for a while. Its only error is the cause of ctx, if that ended it early.
func Run(ctx context.Context, cfg Config) (Report, error) {
	h := &host{
		files: files{cfg.Root}, cfg: cfg,
		hugePages: memory.ReadHugePages, reservedRanges: memory.ReservedRanges, holdReserved: holdReserved, removedPool: memory.ReadRemovedPool,
	}
	if cfg.Root == nil {
		h.files = files{os.DirFS("/")}
		h.log = kernelLog()
	}
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &h.limit); err != nil {
		h.limit = unix.Rlimit{} // for the check to find
	}
	r := Report{Attach: map[attach.Method]Works{}}
	add := func(c Check) { r.Checks = append(r.Checks, c) }

	var check Check
	h.sys, check = openKVM(cfg.KVM)
	add(check)
	if h.sys != nil {
		defer h.sys.Close()
	}
	add(h.flavour())
	add(h.native(ctx))
	add(h.guard())

	secret := checkSecret()
	add(secret)
	add(h.memlock(secret.Status == OK))
	add(checkModule())
	add(checkUserfaultfd())
	add(h.hugeShmem())
	add(h.memfdExec())
	add(h.swap())

	add(h.guestMemfd())
	add(h.hugetlb())
	add(h.reserved())
	add(h.removed())
	add(h.memory())

	add(h.directMap())
	add(h.initOnFree())
	add(h.hibernation())
	add(h.kdump())
	add(h.lockdown())
	add(h.kcore())
	add(h.ptrace())

	for _, p := range attach.Pairs() {
		t := Trial{Pair: p, Reason: "not tried, as that takes memory out of the kernel: offmap doctor --backend removed tries it", Needs: "a try"}
		if p.Backend != memory.Removed || cfg.Backend == memory.Removed || h.sys == nil {
			t = Try(ctx, p, cfg.KVM)
		}
		r.Backends = append(r.Backends, t)
		if p.Backend == memory.Secret {
			r.Attach[p.Attach] = Works{t.Works, t.Reason}
		}
	}
	return r, context.Cause(ctx)
}

// Can reports whether guests of backend b and attach m, or with attach.Auto any,
// work here, for the memory that was asked for.
func (r Report) Can(b memory.Backend, m attach.Method) bool {
	for _, c := range r.Checks {
		if c.Name == memoryCheck && c.Status == Fail {
			return false
		}
	}
	for _, t := range r.Backends {
		if t.Backend == b && t.Works && (m == attach.Auto || m == t.Attach) {
			return true
		}
	}
	return false
}
