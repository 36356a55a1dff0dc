package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"

	"offmap/internal/lab/wire"
	"offmap/internal/process/pdeathsig"
	"offmap/vmm/fuse"
)

// labMachine is a running emulator and our ends of its ports.
type labMachine struct {
	cmd    *exec.Cmd
	died   chan struct{} // closed when the emulator is gone
	ram    *os.File
	ports  map[string]net.Conn
	stderr strings.Builder // QEMU's; read it after died

	mu         sync.Mutex
	console    strings.Builder // what the kernel said on its console
	consoleEnd chan struct{}   // closed when that is all

	closers []io.Closer
	cancel  context.CancelFunc // ends the workers that don't read a port
	workers sync.WaitGroup
}

// startMachine starts a machine of the kind that cfg wants.
func startMachine(ctx context.Context, cfg *Config) (*labMachine, *Result, error) {
	if cfg.Bochs != "" {
		m, err := startBochs(ctx, cfg)
		return m, &Result{Emulator: "Bochs", CPU: bochsCPU}, err
	}
	qemu, version, err := findQEMU(ctx)
	if err != nil {
		return nil, nil, err
	}
	m, err := startQEMU(qemu, cfg)
	return m, &Result{Emulator: version, CPU: cpuModel}, err
}

func startQEMU(qemu string, cfg *Config) (_ *labMachine, err error) {
	m := &labMachine{died: make(chan struct{}), consoleEnd: make(chan struct{}), ports: map[string]net.Conn{}}
	defer func() {
		if err != nil {
			m.closeAll()
		}
	}()
	modules, err := cfg.modules()
	if err != nil {
		return nil, err
	}
	initramfs, err := memfd("offmap-initramfs", 0)
	if err != nil {
		return nil, err
	}
	defer initramfs.Close()
	if err := writeInitramfs(initramfs, cfg, modules, cfg.spec()); err != nil {
		return nil, err
	}
	if m.ram, err = memfd("offmap-lab-ram", cfg.Memory); err != nil {
		return nil, err
	}
	m.closers = append(m.closers, m.ram)

	// What QEMU inherits; ExtraFiles start at descriptor 3.
	inherit := []*os.File{m.ram, initramfs}
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
	}()
	var channels []channel
	for _, name := range []string{consoleChannel, wire.ControlPort, wire.FilesPort, wire.ScanPort} {
		ours, other, err := socketPair()
		if err != nil {
			return nil, err
		}
		m.ports[name] = ours
		m.closers = append(m.closers, ours)
		channels = append(channels, channel{name, 3 + len(inherit)})
		inherit = append(inherit, other)
		theirs = append(theirs, other)
	}

	args := machineArgs(cfg, 3, 4, channels)
	if cfg.Swap > 0 {
		disk, err := swapDisk(cfg.Swap)
		if err != nil {
			return nil, err
		}
		theirs = append(theirs, disk)
		args = append(args, swapArgs(3+len(inherit))...)
		inherit = append(inherit, disk)
	}

	m.cmd = exec.Command(qemu, args...)
	m.cmd.ExtraFiles = inherit
	m.cmd.Stderr = &m.stderr
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the terminal's Ctrl-C is for us to pass on
	if err := pdeathsig.Start(m.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", qemu, err)
	}
	var ctx context.Context
	ctx, m.cancel = context.WithCancel(context.Background())
	m.workers.Go(func() {
		m.cmd.Wait()
		close(m.died)
	})
	m.workers.Go(func() { m.keepConsole(m.ports[consoleChannel]) })
	m.workers.Go(func() {
		// Requests are slow here, and programs are started often. With a validity, the
		// lab also keeps what it has read of a file, until size or time of change differ.
		files := fuse.NewSet(cfg.shares(), fuse.Options{Writable: true, Privileged: true, Validity: fuse.Validity})
		defer files.Close()
		files.Serve(m.ports[wire.FilesPort])
	})
	m.workers.Go(func() { serveScans(ctx, m.ports[wire.ScanPort], m.ram) })
	return m, nil
}

// keepConsole keeps what the kernel says on its console.
func (m *labMachine) keepConsole(r io.Reader) {
	defer close(m.consoleEnd)
	buf := make([]byte, 16<<10)
	for {
		n, err := r.Read(buf)
		m.mu.Lock()
		m.console.Write(buf[:n])
		m.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// log is what the kernel has said on its console so far.
func (m *labMachine) log() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.console.String()
}

// close takes the machine down and waits for everything that serves it.
func (m *labMachine) close() {
	m.cancel()
	m.cmd.Process.Kill()
	<-m.died
	m.closeAll()
	m.workers.Wait()
}

func (m *labMachine) closeAll() {
	for _, c := range m.closers {
		c.Close()
	}
}

// lost says how a machine ended that should still be there.
func (m *labMachine) lost(release string) error {
	<-m.died
	<-m.consoleEnd
	msg := fmt.Sprintf("the machine with %s ended by itself (emulator: %v)", release, m.cmd.ProcessState)
	if s := strings.TrimSpace(m.stderr.String()); s != "" {
		msg += "\n  " + s
	}
	for _, f := range CheckLog(m.log()) {
		msg += "\n  " + f.Text
	}
	return fmt.Errorf("%w: %s\nthe end of its log:%s", ErrKernel, msg, tail(m.log(), 25))
}

// tail quotes the last n lines of a log.
func tail(log string, n int) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return "\n  " + strings.Join(lines, "\n  ")
}
