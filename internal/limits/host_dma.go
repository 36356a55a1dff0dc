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
		ID:     "dma",
		Title:  "Devices can't be given secret RAM: it can't be pinned",
		Source: "the commit message of memfd_secret: GUP refuses secret memory. VFIO, iommufd and RDMA pin what they map with GUP, for as long as they have it",
		Link:   linkCommit,
		How: "a long-term pin as those take it (pin_user_pages with FOLL_LONGTERM), tried by registering memory as an io_uring buffer; and a dma-buf of the memory's file from /dev/udmabuf, where there is one. " +
			"Each must work on a memfd. VFIO itself takes a device to try",
		Expected: "the pin is refused with EFAULT, the dma-buf too",
		Means:    "no device assignment and no RDMA for guests with secret RAM; a device's data goes through buffers in ordinary memory (bounce buffers), which are exposed",
		check:    func(ctx context.Context) (Observation, error) { return checkDMA(ctx, memory.Secret) },
	}, {
		ID:       "vhost",
		Title:    "vhost reads and writes secret RAM, from the kernel, on the VMM's behalf",
		Source:   "vhost works on its owner's address space by uaccess, which the commit message leaves open, and not by GUP",
		Link:     linkCommit,
		How:      "vhost-vsock is given two virtqueues in the memory and started: the kernel then writes a field of each, which had another value. Control: a memfd",
		Expected: "it starts and writes to the memory, secret or not",
		Means:    "vhost would work with secret RAM as it is mapped in the VMM, and makes the kernel copy guest data into ordinary socket buffers: a VMM that hides RAM should leave it out and copy in user space, where it can wipe",
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
		if f := a.mem[q*memory.PageSize+vhostUsed:][:2]; f[0] != 0 || f[1] != 0 {
			return fmt.Errorf("it started and didn't write to queue %d", q)
		}
	}
	return nil
}
