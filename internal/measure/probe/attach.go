package probe

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"offmap/memory/attach"
	"offmap/memory/uffd"
)

// checkModule checks for the bridge's module. It does not fail without it, since the
// window doesn't need it.
func checkModule() Check {
	c := Check{Name: "module", Status: OK, Detail: "offmap.ko is loaded and speaks this program's ABI"}
	err := attach.CheckBridge()
	if err == nil {
		return c
	}
	c.Status, c.Detail = Warn, err.Error()
	switch {
	case errors.Is(err, attach.ErrBridgeMissing):
		c.Detail = "offmap.ko isn't loaded (no " + attach.BridgeDevice + "): no attach bridge"
		c.Fix = "sudo modprobe offmap || { make kmod && sudo make kmod-install && sudo modprobe offmap; }"
	case errors.Is(err, unix.EPERM): // and not EACCES: see sandbox.Device
	case errors.Is(err, attach.ErrBridgeDenied):
		c.Detail = "no right to open " + attach.BridgeDevice + ": who may open it can crash this host, so run as root, or give it to a trusted group"
		c.Fix = fmt.Sprintf("sudo chgrp kvm %[1]s && sudo chmod 660 %[1]s", attach.BridgeDevice)
	case errors.Is(err, attach.ErrBridgeABI):
		c.Fix = "make kmod && sudo make kmod-install && sudo modprobe -r offmap && sudo modprobe offmap"
	}
	return c
}

// checkUserfaultfd checks for the right to userfaultfd, which the window needs.
func checkUserfaultfd() Check {
	c := Check{Name: "userfaultfd", Status: OK, Detail: "may be used for KVM's faults"}
	err := uffd.Probe()
	if err == nil {
		return c
	}
	c.Status, c.Detail = Warn, err.Error()+": no attach window"
	switch {
	case errors.Is(err, uffd.ErrDenied):
		c.Fix = "sudo sysctl vm.unprivileged_userfaultfd=1"
	case errors.Is(err, uffd.ErrUnsupported):
		c.Detail += "; nothing can be done on this kernel"
	}
	return c
}

const shmemEnabled = "sys/kernel/mm/transparent_hugepage/shmem_enabled"

// hugeShmem checks whether shared memory has huge pages, of which a window couldn't
// free single pages.
func (h *host) hugeShmem() Check {
	c := Check{Name: "thp-shmem", Status: OK}
	switch mode, err := h.chosen(shmemEnabled); {
	case err != nil:
		c.Status, c.Detail = Skip, err.Error()
	case mode == "":
		c.Status, c.Detail = Skip, "this kernel has no huge pages for shared memory"
	case mode == "always", mode == "force":
		c.Status = Warn
		c.Detail = "shared memory has huge pages (" + mode + "): there is no attach window, since its size can't be bounded"
		c.Fix = "echo never | sudo tee /" + shmemEnabled
	default:
		c.Detail = mode + ": the window's pages are freed one by one"
	}
	return c
}

// memfdExec checks whether memfds may be executed, as the window's scrubber is
// (Documentation/admin-guide/sysctl/vm.rst, memfd_noexec).
func (h *host) memfdExec() Check {
	c := Check{Name: "memfd-exec", Status: OK, Detail: "memfds can be executed, as the window's scrubber is"}
	switch noexec, err := h.setting("proc/sys/vm/memfd_noexec"); {
	case err != nil:
		c.Status, c.Detail = Skip, err.Error()
	case noexec == "2":
		c.Status = Warn
		c.Detail = "this host forbids executing memfds, so there is no scrubber and no attach window"
		c.Fix = "sudo sysctl vm.memfd_noexec=1"
	}
	return c
}

// swap checks whether this host may write ordinary memory to a swap area.
func (h *host) swap() Check {
	c := Check{Name: "swap", Status: OK, Detail: "no swap area is in use"}
	areas := h.line("proc/swaps")
	switch {
	case areas == "":
		c.Status, c.Detail = Skip, "no /proc/swaps to read"
	case strings.Contains(areas, "\n"): // after the heading
		c.Status = Warn
		c.Detail = "this host swaps: a window's frames have to be locked, which needs CAP_IPC_LOCK or twice the RLIMIT_MEMLOCK; the VMM's own buffers can be written to disk"
		c.Fix = "sudo swapoff -a"
	}
	return c
}
