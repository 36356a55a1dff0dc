package probe

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// directMap reports the page sizes of the direct map. Each page of secret memory is
// a hole in it, and splits the large page that it was part of.
func (h *host) directMap() Check {
	c := Check{Name: "direct-map", Status: OK}
	small, large, giant := h.meminfo().DirectMap()
	total := small + large + giant
	if total == 0 {
		c.Status, c.Detail = Skip, "this kernel doesn't say how it maps RAM (no DirectMap in /proc/meminfo)"
		return c
	}
	var parts []string
	for _, s := range []struct {
		name  string
		bytes uint64
	}{{"4k", small}, {"2M", large}, {"1G", giant}} {
		parts = append(parts, fmt.Sprintf("%d %% %s", (s.bytes*100+total/2)/total, s.name))
	}
	c.Detail = strings.Join(parts, ", ") + ": secret pages split the large pages permanently; the kernel has more TLB misses on memory that is mapped by 4k pages"
	return c
}

// config returns a setting of the running kernel's configuration.
func (h *host) config(name string) (value string, ok bool) {
	text := h.configText()
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), name+"="); ok {
			return v, true
		}
	}
	return "n", text != ""
}

func (h *host) configText() string {
	if b, err := fs.ReadFile(h, "proc/config.gz"); err == nil {
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return ""
		}
		const most = 4 << 20 // of a kernel's configuration
		text, err := io.ReadAll(io.LimitReader(z, most))
		if err != nil {
			return ""
		}
		return string(text)
	}
	return h.line("boot/config-" + release())
}

// autoInit finds out whether the kernel wipes pages as it allocates them ("alloc",
// init_on_alloc) or frees them ("free", init_on_free): from its log, or else from
// the boot parameter, whose default is in the configuration.
func (h *host) autoInit(when string) (on, known bool) {
	// "mem auto-init: stack:off, heap alloc:on, heap free:off"
	if _, said, ok := strings.Cut(h.log, "mem auto-init:"); ok {
		said, _, _ = strings.Cut(said, "\n")
		if _, state, ok := strings.Cut(said, "heap "+when+":"); ok {
			return strings.HasPrefix(state, "on"), true
		}
	}
	if v, ok := h.bootParam("init_on_" + when); ok {
		return v == "1" || v == "on" || v == "y", true
	}
	v, ok := h.config("CONFIG_INIT_ON_" + strings.ToUpper(when) + "_DEFAULT_ON")
	return v == "y", ok
}

// kernelLog returns the kernel's log, or "" if this process may not read it.
func kernelLog() string {
	size, err := unix.Klogctl(unix.SYSLOG_ACTION_SIZE_BUFFER, nil)
	if err != nil || size <= 0 {
		return ""
	}
	buf := make([]byte, size)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, buf)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

// initOnFree checks whether the kernel wipes pages as it frees them. It always wipes
// secret memory, but not the window's frames and the VMM's buffers.
func (h *host) initOnFree() Check {
	c := Check{Name: "init-on-free"}
	alloc, known := h.autoInit("alloc")
	state := "init_on_alloc is "
	switch {
	case !known:
		state += "unknown"
	case alloc:
		state += "on, which wipes pages only when they are used again"
	default:
		state += "off"
	}
	free, known := h.autoInit("free")
	switch {
	case !known:
		c.Status, c.Detail = Skip, "not in the kernel's log, its command line or a readable configuration; "+state
	case free:
		c.Status, c.Detail = OK, "all memory is wiped as it is freed; "+state
	default:
		c.Status = Warn
		c.Detail = "ordinary memory stays readable after it is freed: that of guests in ordinary backends, the VMM's buffers, and the window if VMM and scrubber are killed together; secret memory is always wiped; " + state
		c.Fix = bootParamFix("init_on_free=1")
	}
	return c
}

// hibernation checks whether this host can hibernate, which writes all RAM to disk.
// The kernel refuses to while secret memory exists (secretmem_active in
// kernel/power/hibernate.c).
func (h *host) hibernation() Check {
	c := Check{Name: "hibernation", Status: OK}
	disk, err := h.setting("sys/power/disk")
	resume, resumeErr := h.setting("sys/power/resume")
	switch err := cmp.Or(err, resumeErr); {
	case err != nil:
		c.Status, c.Detail = Skip, err.Error()
	case disk == "":
		c.Detail = "this kernel can't hibernate"
	case strings.Contains(disk, "[disabled]"):
		c.Detail = "not now: a secret guest is running, or the host is locked down"
	case resume == "" || resume == "0:0":
		c.Detail = "the kernel can, but no resume device is set"
	default:
		c.Status = Warn
		c.Detail = "set up (resume device " + resume + "): the kernel refuses to hibernate while a secret guest runs, so a laptop stays awake; guests in ordinary memory are written to disk"
		c.Fix = "sudo systemctl mask hibernate.target hybrid-sleep.target suspend-then-hibernate.target"
	}
	return c
}

// kdump checks for a crash kernel. After a panic of the host it reads all RAM
// through /proc/vmcore, whether that was in the direct map or not
// (Documentation/admin-guide/kdump).
func (h *host) kdump() Check {
	c := Check{Name: "kdump", Status: OK, Detail: "no crash kernel is loaded"}
	switch loaded, err := h.setting("sys/kernel/kexec_crash_loaded"); {
	case err != nil:
		c.Status, c.Detail = Skip, err.Error()
	case loaded == "":
		c.Detail = "this kernel can't load a crash kernel"
	case loaded != "0":
		c.Status = Warn
		c.Detail = "a crash kernel is loaded: after a panic it reads all RAM of this one, guests of every backend but reserved included"
		c.Fix = "sudo kdump-config unload || sudo kexec -p -u"
	}
	return c
}

// lockdown reports what root may not do (lockdown(7)).
func (h *host) lockdown() Check {
	c := Check{Name: "lockdown", Status: OK}
	switch mode, err := h.chosen("sys/kernel/security/lockdown"); {
	case err != nil:
		c.Status, c.Detail = Skip, err.Error()
	case mode == "", mode == "none":
		c.Detail = "off: root can load unsigned modules and read the kernel's memory"
	case mode == "integrity":
		c.Status = Warn
		c.Detail = "integrity: offmap.ko must be signed with an enrolled key, and /dev/mem is closed, so there is no backend reserved"
		c.Fix = "sudo mokutil --import /var/lib/dkms/mok.pub"
	default:
		c.Status = Warn
		c.Detail = mode + ": root can't read the kernel's memory, nor can the audit; offmap.ko must be signed with an enrolled key, and there is no backend reserved"
		c.Fix = "sudo mokutil --import /var/lib/dkms/mok.pub"
	}
	return c
}

// kcore checks for /proc/kcore, through which the audit reads the direct map.
func (h *host) kcore() Check {
	c := Check{Name: "kcore", Status: OK, Detail: "/proc/kcore opens: the audit can search the direct map"}
	f, err := h.Open("proc/kcore")
	if err == nil {
		f.Close()
		return c
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	}
	c.Status, c.Detail = Warn, "the audit can't search the direct map here: open /proc/kcore: "+err.Error()
	c.Fix = "offmap lab -- audit"
	return c
}

// ptrace reports who may trace the VMM, and so read its guest's RAM.
func (h *host) ptrace() Check {
	c := Check{Name: "ptrace", Status: OK}
	const also = "the VMM of a secret guest makes itself undumpable, so tracing it takes CAP_SYS_PTRACE"
	switch scope, err := h.setting("proc/sys/kernel/yama/ptrace_scope"); {
	case err != nil:
		c.Status, c.Detail = Skip, err.Error()
	case scope == "":
		c.Detail = "no Yama: " + also
	case scope == "3":
		c.Detail = "Yama's scope is 3: nobody may trace anything"
	default:
		c.Detail = "Yama's scope is " + scope + ": " + also
	}
	return c
}
