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

// dmaLimits are about devices, real and in the kernel, that access guest RAM.
func dmaLimits() []Limit {
	return []Limit{{
		ID:       "dma",
		Title:    "Devices can't be given secret RAM: it can't be pinned",
		Source:   sourceCommit + ": GUP refuses the memory. VFIO, iommufd and RDMA pin with GUP what they map",
		Link:     linkCommit,
		How:      "A long-term pin, as VFIO's: the audit's attack registers a child's memory as an io_uring buffer. And, where there is /dev/udmabuf, a dma-buf of the file. Each must work on a memfd. VFIO itself isn't tried, since that takes a device.",
		Expected: "EFAULT for the pin, and no dma-buf",
		Means:    "No device assignment and no RDMA with secret RAM: a device's data goes through buffers in ordinary memory, which are exposed.",
		check:    func(ctx context.Context) (Observation, error) { return checkDMA(ctx, memory.Secret) },
	}, {
		ID:       "vhost",
		Title:    "vhost-vsock reads secret RAM, from the kernel, on the VMM's behalf",
		Source:   sourceCommit + ": uaccess remains possible in the process's context, and vhost works in its owner's by uaccess",
		Link:     linkCommit,
		How:      "An attack of the audit: a child that holds a canary in the memory is made to give vhost-vsock its memory, and vhost-vsock to send it to a socket of this process. The same with a memfd.",
		Expected: "Every page of either arrives, with the canary",
		Means:    "vhost-vsock works with secret RAM that the VMM maps, and copies what the guest sends into ordinary buffers of the kernel's. No other vhost device was tried. By their sources vhost-scsi and vDPA pin the guest's pages, which secret memory refuses (see dma), and vhost-net pins them only for zero-copy. A VMM that hides RAM leaves vhost out and copies in user space, where it can wipe the copies.",
		check:    func(ctx context.Context) (Observation, error) { return checkVhost(ctx, memory.Secret) },
	}}
}

func checkDMA(ctx context.Context, b memory.Backend) (o Observation, err error) {
	o, err = refused(b, []attempt{
		{"a long-term pin", unix.EFAULT, by(ctx, "io-uring-fixed")},
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
	// udmabuf takes only files that are sealed against shrinking. A secret file
	// has no seals, which is one reason for its refusal.
	if _, err := unix.FcntlInt(uintptr(memfd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	fd, err := udmabufCreate(int(device.Fd()), memfd, uint64(size))
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// vfioText lists the devices that VFIO has.
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
	control, err := attack(ctx, "vhost", memory.Memfd, 0)
	if err != nil {
		return o, err
	}
	if control.Pages == 0 {
		return o, errors.New("vhost-vsock doesn't read a memfd either, so it proves nothing")
	}
	target, err := attack(ctx, "vhost", b, 0)
	switch errno := unix.Errno(0); {
	case errors.As(err, &errno):
		o.Text = fmt.Sprintf("vhost-vsock and secret memory: %s; of a memfd it sent %d pages", outcome(errno), control.Pages)
		return o, nil
	case err != nil:
		return o, err
	}
	o.Holds = target.Pages == attackPages
	o.Text = fmt.Sprintf("vhost-vsock sent %d of %d pages of secret memory to a socket, and %d of a memfd", target.Pages, attackPages, control.Pages)
	return o, nil
}
