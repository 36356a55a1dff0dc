package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"offmap/guest/agent"
	"offmap/internal/lab/debian"
	"offmap/internal/lab/wire"
	"offmap/internal/process/pdeathsig"
)

// bochsCPU has VMX with EPT, unrestricted guests and VPIDs.
const bochsCPU = "corei7_haswell_4770"

// bochsConfig describes the machine to Bochs. Its serial ports are the console and the
// control port. The clock runs by instructions, so that a busy host doesn't slow it down.
const bochsConfig = `megs: %d
cpu: model=` + bochsCPU + `, count=1, ips=80000000, reset_on_triple_fault=0
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0: enabled=1
ata0-master: type=cdrom, path=%s, status=inserted
boot: cdrom
com1: enabled=1, mode=socket-client, dev=%s
com2: enabled=1, mode=socket-client, dev=%s
clock: sync=none
display_library: term
log: %s
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
sound: waveoutdrv=dummy, waveout=none, waveindrv=dummy, wavein=none, midioutdrv=dummy, midiout=none
`

const grubConfig = `serial --unit=0 --speed=115200
terminal_output serial
set timeout=0
menuentry lab { linux /boot/vmlinuz %s
initrd /boot/initrd }
`

// controlTTY is the second serial port, as Linux calls it.
const controlTTY = "/dev/ttyS1"

// bochsWords are what Linux needs on this machine beside other machines' words: its timers
// are slow, and it has no time for mitigations.
const bochsWords = "tsc=reliable mitigations=off nowatchdog nokaslr"

// startBochs starts a machine with VMX.
func startBochs(ctx context.Context, cfg *Config) (_ *labMachine, err error) {
	tree := cfg.Bochs
	m := &labMachine{died: make(chan struct{}), consoleEnd: make(chan struct{}), ports: map[string]net.Conn{}}
	ctx, m.cancel = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			m.cancel()
			m.closeAll()
		}
	}()
	modules, err := cfg.modules()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(tree, "tmp"), 0o755); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Join(tree, "tmp"), "lab-")
	if err != nil {
		return nil, err
	}
	m.closers = append(m.closers, closer(func() error { return os.RemoveAll(dir) }))
	inside := func(name string) string { return "/tmp/" + filepath.Base(dir) + "/" + name }
	if err := makeISO(ctx, tree, dir, cfg, modules); err != nil {
		return nil, err
	}
	var listeners []net.Listener
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		listeners = append(listeners, l)
	}
	config := fmt.Sprintf(bochsConfig, cfg.Memory>>20, inside("iso.img"), listeners[0].Addr(), listeners[1].Addr(), inside("log"))
	for name, text := range map[string]string{"bochsrc": config, "rc": "c\n"} { // rc is for its debugger
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	if m.cmd, err = debian.InTree(context.Background(), tree, "TERM=linux", "bochs-bin", "-q", "-f", inside("bochsrc"), "-rc", inside("rc")); err != nil {
		return nil, err
	}
	screen, tty, err := agent.OpenPTY() // for Bochs's screen
	if err != nil {
		return nil, err
	}
	defer tty.Close()
	m.closers = append(m.closers, screen)
	m.cmd.Stdin, m.cmd.Stdout, m.cmd.Stderr = tty, tty, tty
	if m.cmd.SysProcAttr == nil {
		m.cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	m.cmd.SysProcAttr.Setsid = true
	if err := pdeathsig.Start(m.cmd); err != nil {
		return nil, fmt.Errorf("start Bochs: %w", err)
	}
	m.workers.Go(func() {
		m.cmd.Wait()
		close(m.died)
		for _, l := range listeners {
			l.Close() // nobody else connects
		}
	})
	m.workers.Go(func() { _, _ = io.Copy(io.Discard, screen) })
	for i, name := range []string{consoleChannel, wire.ControlPort} {
		conn, err := acceptOwn(listeners[i])
		if err != nil {
			m.cmd.Process.Kill()
			said, _ := os.ReadFile(filepath.Join(dir, "log"))
			return nil, fmt.Errorf("connect to Bochs: %w\n%s", err, tail(string(said), 5))
		}
		m.ports[name] = conn
		m.closers = append(m.closers, conn)
	}
	m.workers.Go(func() { m.keepConsole(m.ports[consoleChannel]) })
	return m, nil
}

// acceptOwn takes the connection of a process of this user. Any user of this host can
// connect to the loopback interface, and would be taken for the machine.
func acceptOwn(l net.Listener) (net.Conn, error) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return nil, err
		}
		sockets, err := os.ReadFile("/proc/net/tcp")
		if err != nil {
			conn.Close()
			return nil, err
		}
		if ownsSocket(string(sockets), os.Geteuid(), conn.RemoteAddr(), conn.LocalAddr()) {
			return conn, nil
		}
		conn.Close()
	}
}

// ownsSocket looks in /proc/net/tcp (proc_pid_net(5)) for the socket that connects two
// addresses of the loopback interface, and reports whether it is the user's.
func ownsSocket(sockets string, user int, from, to net.Addr) bool {
	name := func(a net.Addr) string { return fmt.Sprintf("0100007F:%04X", a.(*net.TCPAddr).Port) }
	for line := range strings.Lines(sockets) {
		// sl, local_address, rem_address, st, tx_queue:rx_queue, tr:tm, retrnsmt, uid
		f := strings.Fields(line)
		if len(f) > 7 && f[1] == name(from) && f[2] == name(to) {
			return f[7] == strconv.Itoa(user)
		}
	}
	return false
}

// makeISO makes dir/iso.img, which boots the kernel by GRUB.
func makeISO(ctx context.Context, tree, dir string, cfg *Config, modules []string) error {
	boot := filepath.Join(dir, "iso/boot")
	if err := os.MkdirAll(filepath.Join(boot, "grub"), 0o755); err != nil {
		return err
	}
	image, err := os.ReadFile(cfg.Kernel.Image)
	if err != nil {
		return err
	}
	initrd, err := os.Create(filepath.Join(boot, "initrd"))
	if err != nil {
		return err
	}
	defer initrd.Close()
	if err := errors.Join(
		writeInitramfs(initrd, cfg, modules, cfg.spec()),
		os.WriteFile(filepath.Join(boot, "vmlinuz"), image, 0o644),
		os.WriteFile(filepath.Join(boot, "grub/grub.cfg"), fmt.Appendf(nil, grubConfig, commandLine(cfg)), 0o644),
	); err != nil {
		return err
	}
	name := "/tmp/" + filepath.Base(dir)
	cmd, err := debian.InTree(ctx, tree, "grub-mkrescue", "-o", name+"/iso.img", name+"/iso")
	if err != nil {
		return err
	}
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("grub-mkrescue: %w%s", err, tail(string(said), 10))
	}
	return nil
}

// closer is a function as an io.Closer.
type closer func() error

func (c closer) Close() error { return c() }
