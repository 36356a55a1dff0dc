package userland

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"offmap/guest/agent"
)

// execSpec reads the command that `offmap exec` put into the initramfs: nil if there is
// none. The file goes, because its environment may hold secrets.
func execSpec() (*agent.Spec, error) {
	text, err := os.ReadFile(agent.SpecPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	spec := &agent.Spec{}
	if err := json.Unmarshal(text, spec); err != nil {
		return nil, fmt.Errorf("%s: %w", agent.SpecPath, err)
	}
	return spec, os.Remove(agent.SpecPath)
}

// execute runs the command of a spec in the host's file system, reports how that went,
// and ends the machine. err is what has gone wrong before.
func execute(spec *agent.Spec, err error) {
	if err == nil {
		err = runForHost(spec)
	}
	complain(err)
	drain(os.Stdout)
	powerOff()
}

// runForHost runs the command and reports to the host. Its error is one that the host
// can't be told.
func runForHost(spec *agent.Spec) error {
	if err := agent.LinkPorts(agent.Port); err != nil {
		return err
	}
	port, err := os.OpenFile(agent.PortDevice(agent.Port), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	conn := agent.NewConn(port)
	var r agent.Report
	if err := errors.Join(hostRoot(spec), surroundings(spec)); err != nil {
		r = agent.Report{Code: 126, Failure: err.Error()}
	} else {
		r = agent.Run(spec.Command, conn)
		if spec.Artifacts != "" {
			if err := copyCoverage(); err != nil && r.Failure == "" {
				r.Failure = err.Error()
			}
		}
	}
	unix.Sync()
	if spec.Log {
		if r.LostLog, err = conn.SendKernelLog(); err != nil {
			return err
		}
	}
	if err := conn.SendJSON(agent.Exit, r); err != nil {
		return err
	}
	// The host ends the machine. If it is gone, so is its end of the port.
	select {}
}

// execMounts are what programs expect of a machine, beyond mounts[:3]. A kernel need not
// have every one of these, so that a mount that fails is left out.
var execMounts = []mountPoint{
	{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC},
	{"tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV},
	{"mqueue", "/dev/mqueue", "mqueue", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{"cgroup2", "/sys/fs/cgroup", "cgroup2", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{"bpf", "/sys/fs/bpf", "bpf", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{"securityfs", "/sys/kernel/security", "securityfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{"debugfs", "/sys/kernel/debug", "debugfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{"tracefs", "/sys/kernel/tracing", "tracefs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
}

// Where the layers of the root are mounted.
const (
	lowerDir   = "/lower"
	overlayDir = "/overlay" // a tmpfs with upper and work
)

// hostRoot makes the host's file system the root, below an overlay that takes what is
// written, with the writable shares on top of it.
func hostRoot(spec *agent.Spec) error {
	for _, dir := range []string{newRoot, lowerDir, overlayDir} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	upper, work := overlayDir+"/upper", overlayDir+"/work"
	steps := []func() error{
		func() error { return mountOn(mountPoint{spec.Root, lowerDir, "virtiofs", unix.MS_RDONLY}) },
		func() error { return mountOn(mountPoint{"tmpfs", overlayDir, "tmpfs", 0}) },
		func() error { return errors.Join(os.Mkdir(upper, 0o755), os.Mkdir(work, 0o755)) },
		func() error {
			err := unix.Mount("overlay", newRoot, "overlay", 0, "lowerdir="+lowerDir+",upperdir="+upper+",workdir="+work)
			if err != nil {
				return fmt.Errorf("mount an overlay over the host's files: %w", err)
			}
			return nil
		},
	}
	for dir, tag := range spec.Writable {
		steps = append(steps, func() error { return mountOn(mountPoint{tag, newRoot + dir, "virtiofs", 0}) })
	}
	if spec.Artifacts != "" {
		steps = append(steps, func() error { return mountArtifacts(spec.Artifacts) })
	}
	steps = append(steps, switchRoot)
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	for _, m := range execMounts {
		if os.MkdirAll(m.target, 0o755) == nil {
			_ = mountOn(m)
		}
	}
	return agent.LinkStreams()
}

// maxFiles is the hard limit of open files that programs get, as systemd has it. The
// kernel's own for process 1 is 4096.
const maxFiles = 512 << 10

// surroundings sets up what programs expect beside files.
func surroundings(spec *agent.Spec) error {
	if err := unix.Sethostname([]byte(spec.Hostname)); err != nil {
		return fmt.Errorf("hostname %q: %w", spec.Hostname, err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1024, Max: maxFiles}); err != nil {
		return fmt.Errorf("RLIMIT_NOFILE: %w", err)
	}
	if spec.Artifacts != "" {
		if err := dumpCores(); err != nil {
			return err
		}
	}
	return loopbackUp()
}

// loopbackUp brings up the interface lo, if the kernel has networks.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	return nil
}
