package boot

import (
	"strconv"
	"strings"
)

// Cmdline is the command line that a Linux guest gets unless it is given
// another one: what our machine needs, then the caller's own words, which win
// where the kernel takes the last of several. TSCKHz is the frequency of the
// guest's TSC (KVM_GET_TSC_KHZ); 0 leaves it for the guest to find out.
//
// See the kernel's Documentation/admin-guide/kernel-parameters.txt.
func Cmdline(tscKHz int, extra string) string {
	words := []string{
		serialPort(extra),
		// Restart at once after a panic, which ends the VMM.
		"panic=-1",
		// There is no kvm-clock to tell the guest about time (a host that
		// maps guest RAM itself is what we are without), so it runs from
		// the TSC. The checks below are for broken hardware, by counting
		// timer ticks; a vCPU that isn't scheduled for a while fails them,
		// and the guest then gives up its only good clock, or panics. Linux
		// leaves the first out by itself where it sees KVM's CPUID leaf.
		"no_timer_check",
		"tsc=reliable",
	}
	if tscKHz > 0 {
		// Calibration against the PIT has the same weakness.
		words = append(words, "tsc_early_khz="+strconv.Itoa(tscKHz))
	}
	if extra = strings.TrimSpace(extra); extra != "" {
		words = append(words, extra)
	}
	return strings.Join(words, " ")
}

// serialPort is the word that makes the serial port a console. If the caller's words
// name a virtio console, the serial port is one until that appears: the kernel then
// drops it, and writes nothing twice.
func serialPort(extra string) string {
	console := ""
	for word := range strings.FieldsSeq(extra) {
		if name, ok := strings.CutPrefix(word, "console="); ok {
			console = name
		}
	}
	if strings.HasPrefix(console, "hvc") {
		return "earlyprintk=ttyS0"
	}
	return "console=ttyS0"
}
