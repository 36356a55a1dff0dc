package userland

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"offmap/guest/protocol"
)

// boot is the life of process 1: say that userland is there, mount, run one
// shell, and end the machine with the shell's exit code.
func boot() {
	// The port's number is on the command line, so /proc comes first.
	procErr := mountOn(mounts[0])
	text, _ := os.ReadFile("/proc/cmdline")
	opts, optsErr := protocol.ParseCmdline(string(text))
	portErr := report(opts.EventPort, protocol.EventUserland)
	fmt.Println(protocol.UserlandLine)

	for _, err := range []error{procErr, optsErr, portErr} {
		if err != nil {
			complain(err)
		}
	}
	for _, m := range mounts[1:] {
		if err := mountOn(m); err != nil {
			complain(err)
		}
	}
	// Caught, because the kernel would panic at the end of process 1; not
	// ignored, because children would inherit that.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGPIPE)

	tty := console()
	if opts.EventPort != 0 { // offmap, whose serial port heeds it
		flowControl(tty)
	}
	code := 2
	if optsErr == nil {
		code = runShell(tty, opts.Exec)
	}
	drain(tty)
	unix.Sync()
	if opts.EventPort != 0 {
		_ = report(opts.ExitPort, byte(code)) // a failure was told at the start
	}
	// Nobody listened: end like any machine.
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	for {
		time.Sleep(time.Hour)
	}
}

// report writes b to an I/O port of the VMM, if it has one.
func report(port uint16, b byte) error {
	if port == 0 {
		return nil
	}
	return writePort(port, b)
}

func complain(err error) { fmt.Fprintln(os.Stderr, "init:", err) }

// mountPoint is one of mount(2)'s calls.
type mountPoint struct {
	source, target, fstype string
	flags                  uintptr
}

var mounts = []mountPoint{
	{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID | unix.MS_NOEXEC},
	{"tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV},
}

func mountOn(m mountPoint) error {
	if err := unix.Mount(m.source, m.target, m.fstype, m.flags, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.fstype, m.target, err)
	}
	return nil
}

// console opens the terminal behind /dev/console. It is the last of those
// that the kernel lists, and unlike /dev/console itself it can be a
// controlling terminal, without which Ctrl-C is just a byte.
func console() *os.File {
	text, _ := os.ReadFile("/sys/class/tty/console/active")
	if names := strings.Fields(string(text)); len(names) > 0 {
		tty, err := os.OpenFile("/dev/"+names[len(names)-1], os.O_RDWR|unix.O_NOCTTY, 0)
		if err == nil {
			return tty
		}
		complain(err)
	}
	return os.Stdin
}

// flowControl has the terminal lower RTS while its reader falls behind, stty
// crtscts. Without, Linux drops input that its own 64 KiB don't hold.
func flowControl(tty *os.File) {
	// A console that is no serial port has nothing to lower.
	if t, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS); err == nil {
		t.Cflag |= unix.CRTSCTS
		_ = unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETS, t)
	}
}

// drain waits until all that was written to the console is out, tcdrain(3).
func drain(tty *os.File) {
	// On a console that is no terminal there is nothing to wait for.
	_ = unix.IoctlSetInt(int(tty.Fd()), unix.TCSBRK, 1)
}

// runShell runs a shell on tty, with command or, if that is nil, interactively,
// and returns its exit code once it is gone. Meanwhile it reaps every orphan.
func runShell(tty *os.File, command *string) int {
	args := []string{"sh"}
	if command != nil {
		args = append(args, "-c", *command)
	}
	pid, err := syscall.ForkExec("/bin/sh", args, &syscall.ProcAttr{
		Dir:   "/root",
		Env:   []string{"PATH=/bin", "HOME=/root", "USER=root", "TERM=linux"},
		Files: []uintptr{tty.Fd(), tty.Fd(), tty.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0},
	})
	if err != nil {
		complain(fmt.Errorf("start the shell: %w", err))
		return 126
	}
	for {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			complain(fmt.Errorf("wait for the shell: %w", err))
			return 126
		case got == pid && status.Signaled():
			return 128 + int(status.Signal())
		case got == pid:
			return status.ExitStatus()
		}
	}
}

// reboot returns an applet that ends the machine by reboot(2).
func reboot(how int) func([]string) error {
	return func([]string) error {
		drain(os.Stdout)
		unix.Sync()
		return unix.Reboot(how)
	}
}
