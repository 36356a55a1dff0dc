package limits

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// kdumpLimits are about the crash kernel.
func kdumpLimits() []Limit {
	return []Limit{{
		ID:       "kdump",
		Title:    "No crash kernel is armed: it would read secret memory like any other",
		Source:   "kdump's documentation: after a panic a second kernel, started without a reset, offers the RAM of the first as /proc/vmcore, through mappings of its own",
		Link:     "https://docs.kernel.org/admin-guide/kdump/kdump.html",
		How:      "Whether a crash kernel is loaded (/sys/kernel/kexec_crash_loaded), and memory reserved for one (crashkernel= on the command line). Nothing is crashed here; offmap's tests do that to a lab machine, whose crash kernel then searches /proc/vmcore for what guests wrote.",
		Expected: "None is loaded, as on a default installation",
		Means:    "A dump of the host has its guests' RAM, hidden or not, since nothing tells the second kernel what was secret; only what the first kernel was booted without (backend reserved) isn't in it. Don't boot a host that hides guests with crashkernel=, or encrypt dumps where they are made.",
		check: func(context.Context) (Observation, error) {
			return checkKdump("/sys/kernel/kexec_crash_loaded", "/proc/cmdline")
		},
	}}
}

func checkKdump(loadedFile, cmdlineFile string) (o Observation, err error) {
	cmdline, err := os.ReadFile(cmdlineFile)
	if err != nil {
		return o, err
	}
	reserved := "nothing reserved"
	for _, word := range strings.Fields(string(cmdline)) {
		if strings.HasPrefix(word, "crashkernel=") {
			reserved = word
		}
	}
	loaded, err := os.ReadFile(loadedFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		o.Holds = true
		o.Text = "this kernel can't load a crash kernel (CONFIG_CRASH_DUMP is off); " + reserved
		return o, nil
	case err != nil:
		return o, err
	}
	armed := strings.TrimSpace(string(loaded))
	o.Holds = armed == "0"
	o.Text = fmt.Sprintf("kexec_crash_loaded is %s; %s", armed, reserved)
	return o, nil
}
