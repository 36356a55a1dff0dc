package e2e

import (
	"regexp"
	"strings"
	"testing"
)

// pciCommands show what a Linux guest makes of its PCI bus, and let its entropy device
// interrupt it.
const pciCommands = `for d in /sys/bus/pci/devices/*; do
	echo device $d
	cat $d/vendor $d/device $d/class
	head -n 1 $d/resource
done
dmesg | grep -i 'pci|virtio'
grep PCI /proc/ioports
dd if=/dev/hwrng of=/tmp/random bs=16 count=1 || exit 1
grep virtio /proc/interrupts
exit 9`

// TestPCI holds that Linux finds the bus and a device in each way that it has, takes
// the BAR where it is, and gets interrupts.
func TestPCI(t *testing.T) {
	needInside(t)
	for _, c := range []struct {
		name, append, cpus string
	}{
		{"ACPI", "", "1"},
		{"2 vCPUs", "", "2"},
		{"BARs reallocated", "pci=conf1,realloc,nocrs", "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name != "2 vCPUs" {
				onlyOn(t, "6.1")
			}
			_, r := report(t, 9, "-k", guestKernel, "-m", "256", "--cpus", c.cpus, "--append", strings.TrimSpace("quiet "+c.append), "--rng", "--exec", pciCommands)
			out := strings.ReplaceAll(r.stderr, "\r", "")
			for _, want := range []string{
				"device /sys/bus/pci/devices/0000:00:00.0\n0x1b36\n0x0008\n0x060000\n0x0000000000000000 ",
				"device /sys/bus/pci/devices/0000:00:01.0\n0x1af4\n0x1044\n0xff0000\n0x00000000c0000000 ",
				"PCI: Using configuration type 1 for base access",
				"0cf8-0cff : PCI conf1",
			} {
				if !strings.Contains(out, want) {
					t.Errorf("the guest doesn't say %q", want)
				}
			}
			for _, bad := range []string{"Fatal", "can't claim", "error updating", "no compatible bridge window", "failed to assign", "conflict"} {
				if strings.Contains(out, bad) {
					t.Errorf("the guest says %q", bad)
				}
			}
			if !regexp.MustCompile(`(?m)^ *\d+:.* [1-9]\d* .*MSI.* virtio\d+-input`).MatchString(out) {
				t.Errorf("no interrupt of the device was counted")
			}
			if t.Failed() {
				t.Log(out)
			}
		})
	}
}
