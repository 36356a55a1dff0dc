package lab

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"offmap/memory"
)

// qemuName is the emulator; only its TCG is used, never a KVM of the host.
const qemuName = "qemu-system-x86_64"

// minQEMU is the oldest major version that nested guests are stable on.
const minQEMU = 8

// ErrQEMU means that there is no emulator fit for the lab.
var ErrQEMU = errors.New("the lab needs QEMU")

// Check says whether a lab can be had here at all.
func Check(ctx context.Context) error {
	_, _, err := findQEMU(ctx)
	return err
}

// Room is how many machines with size bytes of RAM each the free memory is
// enough for.
func Room(size int64) int {
	const emulator = 768 << 20 // QEMU's translated code, and its own
	return memory.Room(uint64(size) + emulator)
}

// findQEMU returns the emulator's path and version.
func findQEMU(ctx context.Context) (path, version string, err error) {
	path, err = exec.LookPath(qemuName)
	if err != nil {
		return "", "", fmt.Errorf("%w: %s is not installed: %s", ErrQEMU, qemuName, qemuFix)
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", "", fmt.Errorf("%w: %s --version: %w", ErrQEMU, path, err)
	}
	version, err = checkVersion(string(out))
	return path, version, err
}

const qemuFix = "apt install qemu-system-x86 (on Debian 12 the one from bookworm-backports: apt install -t bookworm-backports qemu-system-x86)"

var versionLine = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`version (\d+)\.(\S+)(?: \(([^)]+)\))?`)
})

// checkVersion finds the version in what qemu --version prints.
func checkVersion(out string) (string, error) {
	m := versionLine().FindStringSubmatch(out)
	if m == nil {
		line, _, _ := strings.Cut(out, "\n")
		return "", fmt.Errorf("%w: can't make out the version in %q", ErrQEMU, line)
	}
	version := m[1] + "." + m[2]
	if m[3] != "" {
		version += " (" + m[3] + ")"
	}
	if major, err := strconv.Atoi(m[1]); err != nil || major < minQEMU {
		return "", fmt.Errorf("%w %d or newer, and this is %s: %s", ErrQEMU, minQEMU, version, qemuFix)
	}
	return version, nil
}

// cpuModel is the processor that the lab emulates: a real one, with nested
// paging. With "max", which has every feature that TCG emulates, 7 of 16 nested
// boots on 6.12 with two processors hung or crashed, with any backend. With
// EPYC all of them came up. TCG lacks some of EPYC's features: check=off lets
// QEMU start without these.
const cpuModel = "EPYC,+svm,+npt,check=off"

// consoleChannel is the channel that is the machine's first serial port.
const consoleChannel = "console"

// A channel connects QEMU to us through the descriptor fd, which it inherits:
// to the serial port, or to the virtio-serial port with that name.
type channel struct {
	name string
	fd   int
}

// machineArgs is QEMU's command line. Descriptor numbers are those that QEMU
// inherits.
func machineArgs(cfg *Config, ram, initramfs int, channels []channel) []string {
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-name", "offmap-lab",
		"-machine", "q35,memory-backend=ram,hpet=off,smbus=off,sata=off,usb=off,vmport=off",
		"-accel", "tcg,thread=multi",
		"-cpu", cpuModel, "-smp", strconv.Itoa(cfg.CPUs),
		"-m", fmt.Sprintf("%dM", cfg.Memory>>20),
		"-object", fmt.Sprintf("memory-backend-file,id=ram,size=%dM,mem-path=/proc/self/fd/%d,share=on", cfg.Memory>>20, ram),
		"-kernel", cfg.Kernel.Image,
		"-initrd", fmt.Sprintf("/proc/self/fd/%d", initramfs),
		"-append", commandLine(cfg),
		"-device", "virtio-serial-pci,max_ports=8",
	}
	for i, c := range channels {
		id := "channel" + strconv.Itoa(i)
		args = append(args, "-chardev", fmt.Sprintf("socket,id=%s,fd=%d", id, c.fd))
		if c.name == consoleChannel {
			args = append(args, "-serial", "chardev:"+id)
		} else {
			args = append(args, "-device", fmt.Sprintf("virtserialport,chardev=%s,name=%s", id, c.name))
		}
	}
	return args
}

// commandLine is the kernel's.
func commandLine(cfg *Config) string {
	words := []string{
		// The kernel passes what it doesn't know to init, in this order, and nothing from
		// before rdinit=.
		"console=ttyS0", "rdinit=/init", initCommand,
		"panic=-1", "oops=panic", // a machine that oopsed proves nothing any more
		"log_buf_len=4M", // all of the log is checked at the end
		"random.trust_cpu=on",
		// On a busy host the emulated CPU can stand still for seconds: that
		// is neither a broken timer nor a stall.
		"no_timer_check", "rcupdate.rcu_cpu_stall_timeout=60", "watchdog_thresh=30",
	}
	if !cfg.Plain {
		words = append(words, "secretmem.enable=1") // off by default before 6.5
	}
	if cfg.Bochs != "" {
		words = append(words, bochsWords)
	}
	if cfg.Append != "" {
		words = append(words, cfg.Append)
	}
	return strings.Join(words, " ")
}
