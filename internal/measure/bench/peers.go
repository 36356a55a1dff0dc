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

// vmmProgram is a VMM's command that boots a guest.
type vmmProgram struct {
	path string
	args []string // the name first
	// cannot is the exit code that says that it can't run a guest here; 0:
	// there is none.
	cannot int
	// own says that it is offmap, which ends with the guest and has a report
	// to write then, and which must not lose a guest. The others are killed
	// when theirs have said all, and lose some.
	own bool
}

// vmmFor is how the subject boots the guest.
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
		// It has MP tables, but its guests get lost with the I/O APIC, and no
		// ACPI tables.
		v.args = []string{
			"gokvm", "boot", "-c", "1", "-m", fmt.Sprintf("%dM", mib), "-k", g.kernel, "-i", g.initrd,
			"-p", g.cmdline("noapic", "noacpi"),
		}
	case MicroVM:
		// docs/system/i386/microvm.rst. Without ACPI its firmware is qboot,
		// which is quicker than SeaBIOS; Linux then needs the MP table.
		v.args = g.qemu("microvm,acpi=off,pit=on,pic=on,rtc=on,isa-serial=on")
		v.cannot = 1
	case Q35:
		// With ACPI, port writes by userland are a #GP where the machine below
		// KVM is QEMU's TCG; it isn't known why.
		v.args = g.qemu("q35", "acpi=off")
		v.cannot = 1
	default:
		return v, fmt.Errorf("%w: no way is known to boot Linux on %s", ErrCannot, s)
	}
	return v, nil
}

// qemu is a QEMU without anything that its machine doesn't need.
func (g linuxGuest) qemu(machine string, words ...string) []string {
	return []string{
		"qemu-system-x86_64", "-M", machine, "-accel", "kvm", "-cpu", "host", "-smp", "1", "-m", strconv.Itoa(linuxMemory >> 20),
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-kernel", g.kernel, "-initrd", g.initrd, "-append", g.cmdline(words...),
	}
}

// cmdline is the guest's command line, which is offmap's own, with the words
// that one VMM's guests need.
func (g linuxGuest) cmdline(words ...string) string {
	exec := fmt.Sprintf("exits -n %d", g.writes)
	words = append(words, "quiet", "rdinit=/init", protocol.ExecWord(exec))
	return boot.Cmdline(g.tscKHz, strings.Join(words, " "))
}
