package bench

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"offmap/guest/protocol"
	"offmap/internal/process/exitcode"
	"offmap/vmm/boot"
)

// vmmProgram is the command of a VMM that boots a guest.
type vmmProgram struct {
	path string
	args []string // with the program's name
	// cannot, if not 0, is the exit code for a host that can't run the guest.
	cannot int
	// own is set for offmap itself. It writes a report when the guest ends, and
	// every failure counts. The others are killed when their guests are done,
	// and fail now and then.
	own bool
}

// vmmFor returns the command with which a subject boots the guest.
func (g linuxGuest) vmmFor(e *Env, s Subject) (vmmProgram, error) {
	v := vmmProgram{path: e.Peers[s.Peer]}
	const mib = linuxMemory >> 20
	switch s.Peer {
	case "":
		self, err := os.Executable()
		if err != nil {
			return v, err
		}
		v.path, v.cannot, v.own = self, exitcode.Cannot, true
		v.args = []string{
			"offmap", "run", "--quiet", "--report", g.report, "--backend", string(s.Backend), "--attach", string(s.Attach),
			"--memory", strconv.Itoa(mib), "--kernel", g.kernel, "--initrd", g.initrd, "--cmdline", g.cmdline(protocol.PortWord),
		}
	case Gokvm:
		// It has MP tables but no ACPI tables, and its guests hang with the I/O
		// APIC.
		v.args = []string{
			"gokvm", "boot", "-c", "1", "-m", fmt.Sprintf("%dM", mib), "-k", g.kernel, "-i", g.initrd,
			"-p", g.cmdline("noapic", "noacpi"),
		}
	case MicroVM:
		// docs/system/i386/microvm.rst. Without ACPI its firmware is qboot, which
		// is faster than SeaBIOS. Linux then needs the MP table.
		v.args = g.qemu("microvm,acpi=off,pit=on,pic=on,rtc=on,isa-serial=on")
		v.cannot = 1
	case Q35:
		// With ACPI, port writes by userland cause a #GP if the machine below KVM
		// is QEMU's TCG. The reason isn't known.
		v.args = g.qemu("q35", "acpi=off")
		v.cannot = 1
	default:
		return v, fmt.Errorf("%w: no way is known to boot Linux on %s", ErrCannot, s)
	}
	return v, nil
}

// qemu returns the arguments of a QEMU with a minimal machine.
func (g linuxGuest) qemu(machine string, words ...string) []string {
	return []string{
		"qemu-system-x86_64", "-M", machine, "-accel", "kvm", "-cpu", "host", "-smp", "1", "-m", strconv.Itoa(linuxMemory >> 20),
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-kernel", g.kernel, "-initrd", g.initrd, "-append", g.cmdline(words...),
	}
}

// cmdline returns the guest's command line: offmap's own, and the words that guests
// of one VMM need.
func (g linuxGuest) cmdline(words ...string) string {
	exec := fmt.Sprintf("exits -n %d", g.writes)
	words = append(words, "quiet", "rdinit=/init", protocol.ExecWord(exec))
	return boot.Cmdline(g.tscKHz, strings.Join(words, " "))
}
