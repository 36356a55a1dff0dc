package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const portsDir = "/dev/virtio-ports"

// PortDevice is the device of a virtio console port, by its name, once LinkPorts has
// found it.
func PortDevice(name string) string { return portsDir + "/" + name }

// portPatience bounds the time for which the ports may take to appear.
const portPatience = 30 * time.Second

// LinkPorts waits for virtio console ports, and makes their devices, as udev would.
// Ports announce their names one by one, just after the driver has found the device.
func LinkPorts(names ...string) error {
	if err := os.MkdirAll(portsDir, 0o755); err != nil {
		return err
	}
	missing := map[string]bool{}
	for _, n := range names {
		missing[n] = true
	}
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		files, err := filepath.Glob("/sys/class/virtio-ports/*/name")
		if err != nil {
			return err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			name := strings.TrimSpace(string(text))
			if err != nil || !missing[name] {
				continue
			}
			if err := os.Symlink("/dev/"+filepath.Base(filepath.Dir(file)), PortDevice(name)); err != nil {
				return err
			}
			delete(missing, name)
		}
		if len(missing) == 0 {
			return nil
		}
		if time.Since(start) > portPatience {
			return fmt.Errorf("%d of the virtio console ports %v are missing", len(missing), names)
		}
	}
}
