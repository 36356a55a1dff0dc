package probe

import (
	"errors"
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"

	"offmap/internal/process/sandbox"
	"offmap/memory"
	"offmap/memory/attach"
)

// trySecret makes secret memory of size bytes and frees it again, untouched.
func trySecret(size uint64) error {
	layout, err := memory.LayoutOf(memory.Region{Size: size})
	if err != nil {
		return err
	}
	ram, err := memory.New(memory.Secret, layout)
	if err != nil {
		return err
	}
	return ram.Close()
}

// overLimit reports whether RLIMIT_MEMLOCK is too low. mmap's errno for that is
// EAGAIN.
func overLimit(err error) bool {
	return errors.Is(err, memory.ErrMemlock) || errors.Is(err, unix.EAGAIN)
}

func checkSecret() Check {
	c := Check{Name: "memfd-secret", Status: OK, Detail: "memfd_secret works"}
	err := trySecret(memory.PageSize)
	if err == nil || overLimit(err) { // the limit has a check of its own
		return c
	}
	c.Status, c.Detail = Fail, err.Error()
	switch {
	case errors.Is(err, memory.ErrSecretDisabled):
		c.Fix = bootParamFix("secretmem.enable=1")
	case errors.Is(err, memory.ErrSecretAbsent):
		c.Detail += ": boot a distribution's kernel; there is no other fix"
	}
	return c
}

// bootParamFix is the command that adds a word to the kernel's command line,
// on Debian and its derivatives.
func bootParamFix(word string) string {
	return fmt.Sprintf(`echo 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX %s"' | sudo tee -a /etc/default/grub && sudo update-grub # and reboot`, word)
}

// memoryCheck is the name of the check for the guest's RAM.
const memoryCheck = "memory"

// memory makes RAM such as the wanted guest's, and frees it.
func (h *host) memory() Check {
	c := Check{Name: memoryCheck}
	if h.sys == nil {
		c.Status, c.Detail = Skip, "no KVM"
		return c
	}
	err := attach.CheckBackend(h.sys, h.cfg.Backend, h.cfg.Memory)
	if err == nil {
		c.Status, c.Detail = OK, fmt.Sprintf("%s of %s memory are available", mib(h.cfg.Memory), h.cfg.Backend)
		return c
	}
	c.Status, c.Detail = Fail, err.Error()
	refused, _ := errors.AsType[*sandbox.Error](err)
	switch {
	case overLimit(err):
		c.Detail = "not with this RLIMIT_MEMLOCK: see memlock"
	case errors.Is(err, memory.ErrSecretDisabled), errors.Is(err, memory.ErrSecretAbsent):
		c.Detail = "not without memfd_secret: see memfd-secret"
	case refused != nil && refused.Call == "memfd_secret":
		c.Detail = "memfd_secret is refused: see memfd-secret"
	case h.cfg.Backend == memory.Removed && h.removed().Status == Fail:
		c.Detail = "not as this host is: see removed"
	case errors.Is(err, memory.ErrTooLarge):
		c.Detail += "; ask for less with --memory"
	}
	return c
}

// memlock checks whether RLIMIT_MEMLOCK has room for the wanted guest's secret RAM
// beside what this user has used of it.
func (h *host) memlock(secret bool) Check {
	c := Check{Name: "memlock", Status: OK}
	if !secret {
		c.Status, c.Detail = Skip, "no memfd_secret"
		return c
	}
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &now); err != nil {
		c.Status, c.Detail = Skip, "getrlimit RLIMIT_MEMLOCK: "+err.Error()
		return c
	}
	most := now.Max
	if total, ok := h.meminfo()["MemTotal"]; ok {
		most = min(most, total)
	}
	used, atTouch, err := charged(min(most, math.MaxInt64))
	if err != nil {
		c.Status, c.Detail = Skip, "can't find out how much of it this user has used: "+err.Error()
		return c
	}
	c.Detail = fmt.Sprintf("%s; %s", limitText(h.limit, now), usedText(used, atTouch))
	if !fits(h.cfg.Memory, used, now.Max) && (atTouch || overLimit(trySecret(h.cfg.Memory))) {
		c.Status = Warn
		if h.cfg.Backend == memory.Secret {
			c.Status = Fail
		}
		c.Detail += fmt.Sprintf("; %s are wanted", mib(h.cfg.Memory))
		want := h.cfg.Memory
		if used != math.MaxUint64 {
			want += used
		}
		c.Fix = fmt.Sprintf("sudo prlimit --pid $$ --memlock=%d:%d", want, want)
	}
	return c
}

// fits reports whether size bytes more are within a limit.
func fits(size, used, limit uint64) bool {
	return limit == unix.RLIM_INFINITY || used <= limit && size <= limit-used
}

// limitText describes the limit as it was and as this process could raise it.
func limitText(was, now unix.Rlimit) string {
	text := "soft limit " + mib(was.Cur) + ", hard limit " + mib(was.Max)
	switch {
	case was.Cur == unix.RLIM_INFINITY:
		return "no limit"
	case now.Max > was.Max:
		return text + ", raised to " + mib(now.Max) + " (CAP_SYS_RESOURCE)"
	case now.Cur > was.Cur:
		return text + ", raised to the hard one"
	}
	return text
}

func usedText(used uint64, atTouch bool) string {
	switch {
	case !atTouch:
		return "this kernel counts each process by itself, when it maps memory, and lets CAP_IPC_LOCK pass"
	case used == math.MaxUint64:
		return fmt.Sprintf("processes of user %d have used all of it", os.Getuid())
	}
	return fmt.Sprintf("processes of user %d have used %s (this kernel counts them together, by pages touched)", os.Getuid(), mib(used))
}

// mib formats bytes for people.
func mib(n uint64) string {
	switch {
	case n == unix.RLIM_INFINITY:
		return "unlimited"
	case n > 0 && n < 1<<20:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
