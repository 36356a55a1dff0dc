// Package pvpanic has the register by which a guest's kernel says that it has
// panicked, whatever its console shows. QEMU's docs/specs/pvpanic.rst describes it;
// Linux's driver is pvpanic-mmio, which finds it by the ACPI device QEMU0001.
package pvpanic

// Where the register is, an I/O port and a size in bytes.
const (
	Port = 0x505
	Size = 1
)

// Events, which are bits of the register.
const (
	panicked    = 1 << 0 // the kernel has panicked
	crashLoaded = 1 << 1 // it has panicked, and now starts a crash kernel

	supported = panicked | crashLoaded
)

// Device is the register.
type Device struct{ panicked func() }

// New returns the register. Panicked is called on the vCPU's thread each time the
// guest says that it has panicked. Linux says so after it has printed why, and
// before it restarts.
func New(panicked func()) *Device { return &Device{panicked} }

// Read implements bus.Device: a driver reads which events there are.
func (*Device) Read(_ uint64, p []byte) {
	clear(p)
	p[0] = supported
}

// Write implements bus.Device.
func (d *Device) Write(_ uint64, p []byte) {
	if p[0]&supported != 0 {
		d.panicked()
	}
}
