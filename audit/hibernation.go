package audit

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"offmap/audit/canary"
	"offmap/audit/snapshot"
)

// hibernation has the kernel copy all RAM to the image that it would write to
// disk.
var hibernation = Avenue{
	Name: "hibernation", Attack: attackHibernation, Halts: true,
	About: "has the kernel make the image of all RAM that hibernation writes to disk, and searches it (/dev/snapshot)",
}

// attackHibernation searches an image. While one process has secret memory, the
// kernel makes no image of the host at all, with EPERM. So no guest with secret
// memory may run while the control is attacked.
func attackHibernation(ctx context.Context, t Target) (f Finding, err error) {
	image, err := snapshot.Search(ctx, canary.Pad(), t.Canary.Masked())
	refused, ok := errors.AsType[*snapshot.Error](err)
	switch {
	case ok && refused.Stage == snapshot.Opening && errors.Is(err, os.ErrNotExist):
		return f, unavailable("%v: this kernel is built without CONFIG_HIBERNATION_SNAPSHOT_DEV", err)
	case ok && refused.Stage == snapshot.Opening && errors.Is(err, unix.EACCES):
		return f, unavailable("%v: run as root", err)
	case ok && refused.Stage == snapshot.Opening && errors.Is(err, unix.EPERM):
		// hibernation_available of kernel/power/hibernate.c
		f.refused(err)
		f.Detail = "the kernel makes no image while a process has secret memory, under lockdown, and with nohibernate"
		return f, nil
	case err != nil:
		return f, err
	}
	f.Pages, f.Bytes = image.Hits, int64(image.Pages)*pageSize
	f.Detail = fmt.Sprintf("the image has %d pages", image.Pages)
	return f, nil
}
