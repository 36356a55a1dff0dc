// Package inside is process 1 of a lab machine: it brings the machine up,
// runs one program as if it ran on the host, and reports how that went.
package inside

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"offmap/guest/agent"
	"offmap/internal/lab/wire"
)

// Command is the argument that makes the offmap binary call Main; the lab
// puts it on the kernel command line, from where it reaches process 1.
const Command = "lab-init"

// Where the machine's own things are: out of the way of the host's
// directories, which are mounted over those of the same name.
const (
	BinDir  = "/lab/bin"
	TempDir = "/lab/tmp"
)

// Main is the life of process 1. It does not return: the machine powers off.
func Main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "offmap: lab-init is what a lab machine runs as its process 1, not a command of its own")
		os.Exit(2)
	}
	if err := live(); err != nil {
		// The host reads the console when the control port fails it.
		fmt.Fprintln(os.Stderr, "offmap: lab-init:", err)
	}
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

func live() error {
	if err := mountAll(); err != nil {
		return err
	}
	text, err := os.ReadFile(wire.SpecPath)
	if err != nil {
		return err
	}
	var spec wire.Spec
	if err := json.Unmarshal(text, &spec); err != nil {
		return fmt.Errorf("%s: %w", wire.SpecPath, err)
	}
	for _, m := range spec.Modules {
		if err := loadModule(m); err != nil {
			return err
		}
	}
	if spec.Swap {
		if err := swapon("/dev/vda"); err != nil { // the machine's only disk
			return fmt.Errorf("swapon: %w", err)
		}
	}
	port, err := openControl(spec.Control)
	if err != nil {
		return err
	}
	conn := agent.NewConn(port)
	report := run(spec, conn)
	if spec.Offmap != "" {
		if err := unix.DeleteModule("offmap", unix.O_NONBLOCK); err != nil && report.Failure == "" {
			report.Unload = err.Error()
		}
	}
	if report.LostLog, err = conn.SendKernelLog(); err != nil {
		return err
	}
	if err := conn.SendJSON(agent.Exit, report); err != nil {
		return err
	}
	// The host ends the machine. Should it be gone, so is its end of the
	// port, and a minute is enough for anything else.
	time.Sleep(time.Minute)
	return nil
}

// openControl opens the serial port tty, or the control port if that is empty.
func openControl(tty string) (*os.File, error) {
	if tty == "" {
		if err := agent.LinkPorts(wire.ControlPort, wire.FilesPort, wire.ScanPort); err != nil {
			return nil, err
		}
		return os.OpenFile(agent.PortDevice(wire.ControlPort), os.O_RDWR, 0)
	}
	port, err := os.OpenFile(tty, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if _, err := term.MakeRaw(int(port.Fd())); err != nil {
		return nil, fmt.Errorf("%s: %w", tty, err)
	}
	// The fastest that every 8250 has.
	mode, err := unix.IoctlGetTermios(int(port.Fd()), unix.TCGETS2)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tty, err)
	}
	mode.Cflag = mode.Cflag&^unix.CBAUD | unix.B115200
	mode.Ispeed, mode.Ospeed = 115200, 115200
	return port, unix.IoctlSetTermios(int(port.Fd()), unix.TCSETS2, mode)
}

// run prepares what the program needs and runs it.
func run(spec wire.Spec, conn *agent.Conn) wire.Report {
	fail := func(err error) wire.Report { return wire.Report{Report: agent.Report{Failure: err.Error()}} }
	if spec.Offmap != "" {
		if err := loadModule(spec.Offmap); err != nil {
			return fail(err)
		}
	}
	if len(spec.Shares) > 0 {
		if err := mountShares(spec.Shares); err != nil {
			return fail(err)
		}
	}
	return wire.Report{Report: agent.Run(spec.Command, conn)}
}

// mountAll mounts what programs expect of a machine.
func mountAll() error {
	for _, m := range []struct {
		dir, fs, opts string
		flags         uintptr
	}{
		{"/proc", "proc", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"/sys", "sysfs", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"/dev", "devtmpfs", "mode=0755", unix.MS_NOSUID},
		{"/dev/pts", "devpts", "mode=0620,ptmxmode=0666", unix.MS_NOSUID | unix.MS_NOEXEC},
		{"/dev/shm", "tmpfs", "mode=1777", unix.MS_NOSUID | unix.MS_NODEV},
		{TempDir, "tmpfs", "mode=1777", unix.MS_NOSUID | unix.MS_NODEV},
		{"/tmp", "tmpfs", "mode=1777", unix.MS_NOSUID | unix.MS_NODEV},
		{"/run", "tmpfs", "mode=0755", unix.MS_NOSUID | unix.MS_NODEV},
		{"/sys/kernel/security", "securityfs", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"/sys/kernel/debug", "debugfs", "mode=0700", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	} {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.fs, m.dir, m.fs, m.flags, m.opts); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.fs, m.dir, err)
		}
	}
	return agent.LinkStreams()
}

// loadModule loads one module. A module that is there already is fine.
func loadModule(path string) error {
	if err := agent.LoadModule(path); !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}
