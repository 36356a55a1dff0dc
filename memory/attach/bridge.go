package attach

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"offmap/internal/process/sandbox"
	"offmap/internal/process/unavailable"
	"offmap/kvm"
	"offmap/memory"
)

// BridgeDevice is the device node of the kernel module offmap.ko.
const BridgeDevice = "/dev/offmap"

// Reasons why there is no bridge. An error of the bridge wraps one of them, or none
// if the module is there and refused the request.
var (
	ErrBridgeMissing error = unavailable.New("no bridge here", "module offmap.ko")
	ErrBridgeDenied  error = unavailable.New("no right to use the bridge", "rights to "+BridgeDevice)
	ErrBridgeABI     error = unavailable.New("the bridge's module is of another version", "module offmap.ko of this version")
)

// BridgeVersion is the version of the module's interface that this program
// speaks: OFFMAP_ABI_VERSION of memory/kmod/offmap.h.
const BridgeVersion = 1

// Requests of memory/kmod/offmap.h.
const (
	bridgeGetVersion = 0x0000b900 // OFFMAP_IOC_VERSION, _IO(0xb9, 0)
	bridgeBind       = 0x4018b901 // OFFMAP_IOC_BIND, _IOW(0xb9, 1, 24 bytes)
)

// bridge is RAM whose slot is a view that the kernel module has made. This
// process reads and writes the memory through its own mapping: everything but
// the slots is as with direct.
type bridge struct {
	direct
	view *bridgeView
}

func openBridge(ram *memory.RAM) (attachment, error) {
	view, err := openBridgeView("", ram.FD(), ram.Pointer(), ram.Layout().Size())
	if err != nil {
		return nil, &refusal{err.Error(), err}
	}
	return bridge{direct{ram}, view}, nil
}

func (b bridge) slots() []kvm.Slot { return slotsOf(b.ram, b.view.addr) }
func (b bridge) Close() error      { return b.view.Close() }

// CheckBridge reports whether the bridge's device is there, may be used and
// speaks this program's ABI.
func CheckBridge() error {
	fd, err := openBridgeDevice("")
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// openBridgeDevice opens the device ("" for BridgeDevice) and checks that the module
// speaks this program's ABI. The caller closes the descriptor.
func openBridgeDevice(device string) (int, error) {
	if device == "" {
		device = BridgeDevice
	}
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return -1, fmt.Errorf("open %s: %w: %w: load the kernel module with `modprobe offmap`; "+
			"if that doesn't find it, build and install it with `make kmod && sudo make kmod-install`",
			device, ErrBridgeMissing, err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return -1, fmt.Errorf("open %s: %w: %w: run as root, or let your group have the device "+
			"(memory/kmod/README.md says how)", device, ErrBridgeDenied, sandbox.Device(err))
	case err != nil:
		return -1, fmt.Errorf("open %s: %w", device, err)
	}
	if err := checkBridgeVersion(device, fd); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func checkBridgeVersion(device string, fd int) error {
	got, err := unix.IoctlRetInt(fd, bridgeGetVersion)
	if err != nil {
		return fmt.Errorf("ioctl OFFMAP_IOC_VERSION on %s: %w: %w: is it the device of offmap.ko?",
			device, ErrBridgeABI, err)
	}
	const reload = "`sudo make kmod-install && sudo modprobe -r offmap && sudo modprobe offmap`"
	switch {
	case got < BridgeVersion:
		return fmt.Errorf("%s: %w: it speaks ABI %d, needed is %d: update the module with %s",
			device, ErrBridgeABI, got, BridgeVersion, reload)
	case got > BridgeVersion:
		return fmt.Errorf("%s: %w: it speaks ABI %d, this program %d: update offmap, or the module from the same sources with %s",
			device, ErrBridgeABI, got, BridgeVersion, reload)
	}
	return nil
}
