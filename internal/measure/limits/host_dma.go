package limits

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"offmap/memory"
)

// dmaLimits is devices, real and in the kernel, that use guest RAM by
// themselves.
func dmaLimits() []Limit {
	return []Limit{{
		ID:       "dma",
		Title:    "Devices can't be given secret RAM: it can't be pinned",
		Source:   sourceCommit + ": GUP refuses the memory. VFIO, iommufd and RDMA pin with GUP what they map",
		Link:     linkCommit,
		How:      "A long-term pin, as those take it, by registering the memory as an io_uring buffer; and, where there is /dev/udmabuf, a dma-buf of its file. Each must work on a memfd. VFIO itself would take a device.",
		Expected: "EFAULT for the pin, and no dma-buf",
		Means:    "No device assignment and no RDMA with secret RAM: a device's data goes through buffers in ordinary memory, which are exposed.",
		check:    func(ctx context.Context) (Observation, error) { return checkDMA(ctx, memory.Secret) },
	}, {
		ID:       "vhost",
		Title:    "vhost reads and writes secret RAM, from the kernel, on the VMM's behalf",
		Source:   sourceCommit + ": uaccess remains possible in the process's context, and vhost works in its owner's by uaccess",
		Link:     linkCommit,
		How:      "vhost-vsock is given two virtqueues in the memory and started, upon which the kernel writes a field of each that had another value: in secret memory and in a memfd.",
		Expected: "It starts and writes to both",
		Means:    "vhost works with secret RAM that the VMM maps, and copies what the guest sends into ordinary buffers of the kernel's. A VMM that hides RAM leaves it out and copies in user space, where it can wipe.",
		check:    func(ctx context.Context) (Observation, error) { return checkVhost(ctx, memory.Secret) },
	}}
}

func checkDMA(ctx context.Context, b memory.Backend) (o Observation, err error) {
	o, err = refused(b, []attempt{
		{"a long-term pin", unix.EFAULT, func(a *area) error { return pin(a.mem) }},
		{"a dma-buf from udmabuf", 0, func(a *area) error { return udmabuf(a.fd, len(a.mem)) }},
	})
	if err == nil {
		o.Text += "; " + vfioText()
	}
	return o, errors.Join(err, ctx.Err())
}

// udmabuf makes a dma-buf of a memfd's pages, Documentation/driver-api/dma-buf.rst.
func udmabuf(memfd, size int) error {
	const path = "/dev/udmabuf"
	device, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return skipped("%v", err)
	}
	if err != nil {
		return err
	}
	defer device.Close()
	// It wants memory that can't shrink. A secret file has no seals, which
	// is its own way of refusing.
	if _, err := unix.FcntlInt(uintptr(memfd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	fd, err := udmabufCreate(int(device.Fd()), memfd, uint64(size))
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// vfioText says what there is of real devices.
func vfioText() string {
	groups, err := os.ReadDir("/dev/vfio")
	if err != nil {
		return "no /dev/vfio"
	}
	var names []string
	for _, g := range groups {
		names = append(names, g.Name())
	}
	return "not tried: /dev/vfio has " + strings.Join(names, ", ")
}

func checkVhost(ctx context.Context, b memory.Backend) (o Observation, err error) {
	if err := vhostTrial(memory.Memfd); err != nil {
		if errors.Is(err, ErrSkipped) {
			return o, err
		}
		return o, fmt.Errorf("control, a memfd: %w", err)
	}
	err = vhostTrial(b)
	o.Holds = err == nil
	o.Text = "vhost-vsock started and wrote to secret memory, as it did to a memfd"
	if err != nil {
		o.Text = fmt.Sprintf("vhost-vsock and secret memory: %v; to a memfd it wrote", err)
	}
	return o, ctx.Err()
}

// vhostTrial lets vhost-vsock write to memory of backend b. An error is a
// refusal, or one that wraps ErrSkipped.
func vhostTrial(b memory.Backend) error {
	const path = "/dev/vhost-vsock"
	device, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.ENODEV) {
		return skipped("%v: modprobe vhost_vsock; in the lab --module vhost_vsock", err)
	}
	if err != nil {
		return err
	}
	defer device.Close()
	a, err := newPopulated(b, vhostQueues*memory.PageSize)
	if err != nil {
		return err
	}
	defer a.Close()
	for q := range vhostQueues {
		copy(a.mem[q*memory.PageSize+vhostUsed:], []byte{0xff, 0xff}) // the used ring's flags
	}
	if err := startVsock(int(device.Fd()), a.mem); err != nil {
		return err
	}
	for q := range vhostQueues {
		// It says 0, or 1 when its worker has had a look already.
		if f := a.mem[q*memory.PageSize+vhostUsed:][:2]; f[0] == 0xff || f[1] == 0xff {
			return fmt.Errorf("it started and didn't write to queue %d", q)
		}
	}
	return nil
}
