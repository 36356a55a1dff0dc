// Package wire is what the host and the inside of a lab machine say to each other
// beyond package agent: the description of what to run, which travels in the
// initramfs, and the report.
package wire

import "offmap/guest/agent"

// Names of the virtio-serial ports. Inside, /dev/virtio-ports/NAME is the
// port's device.
const (
	ControlPort = "org.offmap.lab"
	FilesPort   = "org.offmap.files"
	ScanPort    = "org.offmap.scan"
)

// SpecPath is where the initramfs holds the Spec, as JSON.
const SpecPath = "/lab/spec.json"

// A Spec says what the inside of a lab machine has to do.
type Spec struct {
	agent.Command
	// Modules are the paths of kernel modules to load, in this order.
	Modules []string `json:"modules"`
	// Offmap is the path of offmap.ko, or empty to go without.
	Offmap string `json:"offmap,omitempty"`
	// Swap has the disk swapped to that the machine has then.
	Swap bool `json:"swap,omitempty"`
	// Control is the device of a serial port that stands in for the control port; empty:
	// the virtio-serial port. A machine with one has no other ports.
	Control string `json:"control,omitempty"`
	// Shares are host directories to mount at the same path; the index in
	// this list is the directory's name at the root of the file server.
	Shares []string `json:"shares"`
}

// A Report says how it went inside.
type Report struct {
	agent.Report
	// Unload is why offmap.ko could not be unloaded afterwards.
	Unload string `json:"unload,omitempty"`
}
