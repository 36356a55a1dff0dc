// Package jail takes from this process what a VMM doesn't need while its guest runs, so
// that a guest that takes over the VMM has got little. It is for good, and for all threads.
//
// Enter gives up, in this order:
//
//   - Files: Landlock refuses to open any, but those below the directories that Rights
//     names, and to bind and connect TCP ports (Documentation/userspace-api/landlock.rst).
//   - Its user and groups, if Rights has others.
//   - Capabilities: all, but those that Rights names.
//   - New privileges by execve(2): no_new_privs, prctl(2).
//   - System calls: a seccomp filter lets through those that a running machine makes
//     (calls.go), with ioctl(2) by its requests. Any other ends the process by SIGSYS,
//     with a message that names the call.
//
// What has to be opened, has to be open before: the KVM device, disks, sockets.
package jail

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/landlock-lsm/go-landlock/landlock"
	landlocksys "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"

	"offmap/internal/process/sandbox"
)

// Rights is what the process keeps beside what every machine needs.
type Rights struct {
	// Read and Write are files and directories. The process can go on to open what is
	// below those of Read, and to make, change and remove what is below those of Write.
	Read, Write []string
	// Remove are directories in which the process can remove files, and do nothing else.
	Remove []string
	// User is whom the process becomes. nil: it stays who it is.
	User *User
	// Capabilities are numbers such as unix.CAP_CHOWN, of which it keeps those it has.
	Capabilities []int
	// Accept lets it take connections of the sockets that it listens on.
	Accept bool
}

// User is a user with its groups, by their numbers.
type User struct {
	UID, GID int
	Groups   []int
}

// Enter makes this process keep only these rights. missing says what this host's kernel
// doesn't offer, or a container forbids: the rest is done. The error is of a host where
// something fails that should work; then part of it may have been done.
func Enter(r Rights) (missing []string, err error) {
	sandbox.Keep()
	// What a capability allows to lock now, a limit has to from now on.
	unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unlimited); err != nil && !errors.Is(err, unix.EPERM) {
		return nil, os.NewSyscallError("setrlimit", err)
	}
	if err := allThreads("prctl", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return nil, err
	}
	if abi, err := landlocksys.LandlockGetABIVersion(); err != nil || abi < 1 {
		missing = append(missing, "Landlock: files and TCP ports aren't closed to a VMM that a guest has taken over (CONFIG_SECURITY_LANDLOCK, and landlock in lsm=)")
	} else if err := restrictFiles(r); err != nil {
		return missing, fmt.Errorf("restrict files by Landlock: %w", err)
	}
	if r.User != nil {
		if err := become(r.User); err != nil {
			return missing, err
		}
	}
	if err := dropCapabilities(r.Capabilities); err != nil {
		return missing, err
	}
	if !seccomp.Supported() {
		return append(missing, "seccomp: all system calls stay open to a VMM that a guest has taken over (CONFIG_SECCOMP_FILTER)"), nil
	}
	filter := seccomp.Filter{NoNewPrivs: true, Flag: seccomp.FilterFlagTSync, Policy: policy(r)}
	if err := nameRefused(); err != nil {
		return missing, err
	}
	runtime.LockOSThread() // TSYNC gives the others what this thread has
	defer runtime.UnlockOSThread()
	return missing, seccomp.LoadFilter(filter)
}

// restrictFiles leaves what is below some directories. Landlock takes files as well as
// directories, but not the same rights for both.
func restrictFiles(r Rights) error {
	var rules []landlock.Rule
	for _, list := range []struct {
		paths       []string
		dirs, files func(...string) landlock.FSRule
	}{{r.Read, landlock.RODirs, landlock.ROFiles}, {r.Write, landlock.RWDirs, landlock.RWFiles}} {
		for _, path := range list.paths {
			rule := list.files(path)
			if info, err := os.Stat(path); err != nil {
				return err
			} else if info.IsDir() {
				rule = list.dirs(path).WithRefer()
			}
			rules = append(rules, rule)
		}
	}
	rules = append(rules, landlock.PathAccess(landlocksys.AccessFSRemoveFile, r.Remove...))
	return landlock.V5.BestEffort().Restrict(rules...)
}

// become makes this process u's. Its capabilities stay permitted, for dropCapabilities.
func become(u *User) error {
	if err := allThreads("prctl", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1); err != nil {
		return err
	}
	if err := syscall.Setgroups(u.Groups); err != nil {
		return os.NewSyscallError("setgroups", err)
	}
	if err := syscall.Setresgid(u.GID, u.GID, u.GID); err != nil {
		return os.NewSyscallError("setresgid", err)
	}
	return os.NewSyscallError("setresuid", syscall.Setresuid(u.UID, u.UID, u.UID))
}

// dropCapabilities leaves those capabilities of this process that are in keep.
func dropCapabilities(keep []int) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var has, keeps [2]unix.CapUserData
	if err := unix.Capget(&header, &has[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	for _, c := range keep {
		bit := uint32(1) << (c % 32)
		keeps[c/32].Effective |= has[c/32].Permitted & bit // all are without effect after become
		keeps[c/32].Permitted |= has[c/32].Permitted & bit
	}
	return setCapabilities(&header, &keeps)
}

// allThreads makes a system call in each thread of this process.
func allThreads(name string, call uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	if _, _, errno := psx.Syscall6(call, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
		return os.NewSyscallError(name, errno)
	}
	return nil
}
