package userland

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"offmap/guest/protocol"
)

// boot is all that process 1 does: it reports that userland runs, loads the modules
// that are in the initramfs, mounts, runs one shell, and ends the machine with the
// shell's exit code. With root= on the command line it goes on in that file system.
func boot() {
	// The port's number is on the command line, so /proc comes first.
	procErr := mountOn(mounts[0])
	text, _ := os.ReadFile("/proc/cmdline")
	opts, optsErr := protocol.ParseCmdline(string(text))
	portErr := report(opts.EventPort, protocol.EventUserland)

	// The console's driver may be a module, so nothing is printed before.
	errs := []error{procErr, optsErr}
	for _, m := range mounts[1:] {
		errs = append(errs, mountOn(m))
	}
	if portErr != nil { // there was no /dev/port yet
		portErr = report(opts.EventPort, protocol.EventUserland)
	}
	errs = append(errs, loadModules())
	if spec, err := execSpec(); spec != nil || err != nil {
		execute(spec, errors.Join(append(errs, err)...))
	}
	errs = append(errs, portErr, awaitConsole(opts.Console))
	fmt.Println(protocol.UserlandLine)
	for _, err := range errs {
		complain(err)
	}
	for _, s := range opts.Shares {
		complain(mountShare(s))
	}
	// The signals are caught, because the kernel panics when process 1 ends.
	// They aren't ignored, because children would inherit that.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGPIPE)

	sh := initramfsShell
	if opts.Root != nil {
		if err := enterRoot(*opts.Root); err != nil {
			complain(err)
			optsErr = err
		} else if opts.Exec == nil {
			complain(startInit(opts.Root.Init))
		}
		sh = rootShell
	}
	tty := console()
	if opts.EventPort != 0 { // this is offmap, and its serial port obeys RTS
		flowControl(tty)
	}
	code := 2
	if optsErr == nil {
		code = sh.run(tty, opts.Exec)
	}
	drain(tty)
	unix.Sync()
	if opts.EventPort != 0 {
		if err := report(opts.ExitPort, byte(code)); err != nil && code != 0 {
			complain(fmt.Errorf("the VMM can't be told the exit code %d, so the machine ends with a reset: %w", code, err))
			drain(tty)
			end(unix.LINUX_REBOOT_CMD_RESTART) // what a VMM takes for a failure
		}
	}
	powerOff() // the VMM didn't end the guest
}

func powerOff() { end(unix.LINUX_REBOOT_CMD_POWER_OFF) }

// end ends the machine by reboot(2).
func end(how int) {
	unix.Reboot(how)
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

func complain(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "init:", err)
	}
}

// console opens the terminal behind /dev/console, the last one in the kernel's list
// of consoles. Unlike /dev/console it can be a controlling terminal. Without one,
// Ctrl-C is just a byte.
func console() *os.File {
	if names := consoles(); len(names) > 0 {
		tty, err := os.OpenFile("/dev/"+names[len(names)-1], os.O_RDWR|unix.O_NOCTTY, 0)
		if err == nil {
			return tty
		}
		complain(err)
	}
	return os.Stdin
}

// flowControl sets the terminal to lower RTS when its reader falls behind, as stty
// crtscts does. Otherwise Linux drops input that doesn't fit into its own 64 KiB.
func flowControl(tty *os.File) {
	// An error means that the console is no serial port.
	if t, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS); err == nil {
		t.Cflag |= unix.CRTSCTS
		_ = unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETS, t)
	}
}

// drain waits until the console has sent everything, as tcdrain(3).
func drain(tty *os.File) {
	// An error means that the console is no terminal.
	_ = unix.IoctlSetInt(int(tty.Fd()), unix.TCSBRK, 1)
}

// shellIn is where a shell runs.
type shellIn struct{ dir, path string }

var (
	initramfsShell = shellIn{"/root", "/bin"}
	rootShell      = shellIn{"/", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
)

// run runs a shell on tty and returns its exit code. The shell runs command, or is
// interactive if command is nil. Meanwhile run reaps every orphan.
func (s shellIn) run(tty *os.File, command *string) int {
	args := []string{"sh"}
	if command != nil {
		args = append(args, "-c", *command)
	}
	pid, err := syscall.ForkExec("/bin/sh", args, &syscall.ProcAttr{
		Dir:   s.dir,
		Env:   []string{"PATH=" + s.path, "HOME=/root", "USER=root", "TERM=linux"},
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
