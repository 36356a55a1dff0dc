// Package userland is the userland of the Linux guests that offmap boots: process 1,
// a POSIX shell, and a few commands to look around in a guest. It is part of the one
// program in offmap's initramfs. Started as /init, that program is process 1;
// started through a link with a command's name, it is that command.
package userland

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/u-root/u-root/pkg/core"
	"github.com/u-root/u-root/pkg/core/cat"
	"github.com/u-root/u-root/pkg/core/chmod"
	"github.com/u-root/u-root/pkg/core/cp"
	"github.com/u-root/u-root/pkg/core/find"
	"github.com/u-root/u-root/pkg/core/ls"
	"github.com/u-root/u-root/pkg/core/mkdir"
	"github.com/u-root/u-root/pkg/core/mv"
	"github.com/u-root/u-root/pkg/core/rm"
	"github.com/u-root/u-root/pkg/core/touch"
	"golang.org/x/sys/unix"
)

// applet is one command. run gets its arguments without the command's name.
type applet struct {
	name string
	run  func(args []string) error
}

// In alphabetical order.
var applets = []applet{
	{"canary", plantCanary},
	{"cat", uroot(cat.New)},
	{"chmod", uroot(chmod.New)},
	{"cp", uroot(cp.New)},
	{"date", date},
	{"dd", dd},
	{"dmesg", dmesg},
	{"exits", exits},
	{"find", uroot(find.New)},
	{"free", free},
	{"grep", grep},
	{"halt", reboot(unix.LINUX_REBOOT_CMD_HALT)},
	{"head", head},
	{"insmod", insmod},
	{"kill", kill},
	{"ls", uroot(ls.New)},
	{"mkdir", uroot(mkdir.New)},
	{"mount", mount},
	{"mv", uroot(mv.New)},
	{"poweroff", reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)},
	{"ps", ps},
	{"reboot", reboot(unix.LINUX_REBOOT_CMD_RESTART)},
	{"rm", uroot(rm.New)},
	{"sh", shell},
	{"sleep", sleep},
	{"sync", func([]string) error { unix.Sync(); return nil }},
	{"touch", uroot(touch.New)},
	{"umount", umount},
	{"uname", uname},
	{"wc", wc},
}

// uroot makes an applet of one of u-root's commands.
func uroot(newCommand func() core.Command) func([]string) error {
	return func(args []string) error { return newCommand().Run(args...) }
}

// Names lists the commands in alphabetical order.
func Names() []string {
	names := make([]string, len(applets))
	for i, a := range applets {
		names[i] = a.name
	}
	return names
}

// Program returns the function that runs what args[0] names: process 1 or a command,
// or nil for any other name. The function returns the exit code; as process 1 it
// doesn't return. Process 1 ignores its further arguments, because the kernel passes
// it the words of its command line that it doesn't know.
func Program(args []string) func() int {
	if len(args) == 0 {
		return nil
	}
	name := filepath.Base(args[0])
	if name == "init" && os.Getpid() == 1 {
		return func() int { boot(); return 0 }
	}
	for _, a := range applets {
		if a.name == name {
			return func() int { return exitCode(a.name, a.run(args[1:])) }
		}
	}
	return nil
}

// exitStatus is an exit code as an error, without a message.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// exitCode prints err if it has a message, and returns the exit code.
func exitCode(name string, err error) int {
	var status exitStatus
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, &status):
		return int(status)
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	return 1
}

// usage prints how to call a command, and returns the error for wrong arguments.
func usage(synopsis string) error {
	fmt.Fprintln(os.Stderr, "usage:", synopsis)
	return exitStatus(2)
}
