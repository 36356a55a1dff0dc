package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Types of devices, virtio 1.2 §5.
const (
	blk     = 2
	console = 3
	rng     = 4
	fs      = 26
)

var kindNames = map[int]string{blk: "blk", console: "console", rng: "rng", fs: "fs"}

// PCI configuration space.
const (
	regCommand      = 0x04
	commandOn       = 0x0406 // memory, bus master, no INTx
	regBAR          = 0x10
	regCapabilities = 0x34
	configSpace     = 256
)

// Registers of the common configuration, virtio 1.2 §4.1.4.3.
const (
	deviceFeatureSelect = 0x00
	deviceFeature       = 0x04
	driverFeatureSelect = 0x08
	driverFeature       = 0x0c
	configVector        = 0x10
	numQueues           = 0x12
	deviceStatus        = 0x14
	queueSelect         = 0x16
	queueSize           = 0x18
	queueVector         = 0x1a
	queueEnable         = 0x1c
	queueDesc           = 0x20
	queueAvail          = 0x28
	queueUsed           = 0x30
	commonEnd           = 0x38
)

// Bits of the device status, §2.1.
const (
	acknowledge = 1
	driver      = 2
	driverOK    = 4
	featuresOK  = 8
	needsReset  = 64
	failed      = 128
)

const (
	indirectDesc = 1 << 28
	eventIdx     = 1 << 29
	version1     = 1 << 32
)

// device is a virtio device that no driver has.
type device struct {
	name   string // its PCI address
	kind   int
	config *os.File
	saved  [configSpace]byte
	bar    bar

	common, notify, isr, regs int // offsets in the BAR
	notifyStep                int
	window                    int // the capability for access through configuration space
	msix, vectors, table      int // the capability, and the table in the BAR
	queues                    []int
	mem                       *arena
}

func (d *device) String() string { return kindNames[d.kind] + " at " + d.name }

const (
	pciDevices = "/sys/bus/pci/devices"
	pciDriver  = "/sys/bus/pci/drivers/virtio-pci"
)

// devices takes all virtio devices from their drivers.
func devices() (all []*device, err error) {
	paths, err := filepath.Glob(pciDevices + "/*")
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		vendor, err := number(path + "/vendor")
		if err != nil {
			return nil, err
		}
		id, err := number(path + "/device")
		if err != nil {
			return nil, err
		}
		if vendor != 0x1af4 || id < 0x1040 {
			continue
		}
		d := &device{name: filepath.Base(path), kind: id - 0x1040}
		if err := d.open(path); err != nil {
			return nil, fmt.Errorf("%s: %w", d, err)
		}
		all = append(all, d)
	}
	if len(all) == 0 {
		return nil, errors.New("no virtio device on the PCI bus")
	}
	return all, nil
}

func number(path string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseInt(strings.TrimSpace(string(b)), 0, 64)
	return int(v), err
}

func (d *device) open(path string) (err error) {
	if err := os.WriteFile(pciDriver+"/unbind", []byte(d.name), 0); err != nil {
		return err
	}
	if d.config, err = os.OpenFile(path+"/config", os.O_RDWR, 0); err != nil {
		return err
	}
	if _, err := d.config.ReadAt(d.saved[:], 0); err != nil {
		return err
	}
	f, err := os.OpenFile(path+"/resource0", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if d.bar, err = unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("mmap of the BAR: %w", err)
	}
	d.parse()
	d.configWrite(regCommand, 2, commandOn)
	for i := range d.bar.read(d.common+numQueues, 2) {
		d.set(queueSelect, 2, i)
		d.queues = append(d.queues, int(d.get(queueSize, 2)))
	}
	if d.window == 0 || d.msix == 0 || len(d.queues) == 0 || d.queues[0] == 0 {
		return fmt.Errorf("it isn't as expected: %+v", d)
	}
	return nil
}

// parse walks the capability list.
func (d *device) parse() {
	le := binary.LittleEndian
	for at := int(d.saved[regCapabilities]); at >= 0x40 && at < configSpace-20; at = int(d.saved[at+1]) {
		c := d.saved[at:]
		switch off := int(le.Uint32(c[8:])); {
		case c[0] == 0x11: // MSI-X, PCI 3.0 §6.8.2
			d.msix, d.vectors, d.table = at, int(le.Uint16(c[2:])&0x7ff)+1, int(le.Uint32(c[4:])&^7)
		case c[0] != 0x09:
		case c[3] == 1:
			d.common = off
		case c[3] == 2:
			d.notify, d.notifyStep = off, int(le.Uint32(c[16:]))
		case c[3] == 3:
			d.isr = off
		case c[3] == 4:
			d.regs = off
		case c[3] == 5:
			d.window = at
		}
	}
}

func (d *device) get(reg, size int) uint64    { return d.bar.read(d.common+reg, size) }
func (d *device) set(reg, size int, v uint64) { d.bar.write(d.common+reg, size, v) }

func (d *device) configRead(reg, size int) {
	var b [8]byte
	_, _ = d.config.ReadAt(b[:size], int64(reg))
}

func (d *device) configWrite(reg, size int, v uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	_, _ = d.config.WriteAt(b[:size], int64(reg))
}

func (d *device) kick(queue int) { d.bar.write(d.notify+queue*d.notifyStep, 2, uint64(queue)) }

// patience is how long a device may take for anything before it is called hung.
const patience = 2 * time.Minute

// reset resets the device, and waits until it is done.
func (d *device) reset() error {
	d.configWrite(regCommand, 2, commandOn)
	d.set(deviceStatus, 1, 0)
	for start := time.Now(); d.get(deviceStatus, 1) != 0; time.Sleep(100 * time.Microsecond) {
		if time.Since(start) > patience {
			return fmt.Errorf("%s: the reset isn't done after %v", d, patience)
		}
	}
	return nil
}

func (d *device) features() uint64 {
	d.set(deviceFeatureSelect, 4, 1)
	high := d.get(deviceFeature, 4)
	d.set(deviceFeatureSelect, 4, 0)
	return high<<32 | d.get(deviceFeature, 4)
}

func (d *device) accept(features uint64) {
	for i := range uint64(2) {
		d.set(driverFeatureSelect, 4, i)
		d.set(driverFeature, 4, features>>(32*i)&0xffffffff)
	}
}

// place tells the device where a queue is.
func (d *device) place(queue, size int, desc, avail, used uint64) {
	d.set(queueSelect, 2, uint64(queue))
	d.set(queueSize, 2, uint64(size))
	d.set(queueDesc, 8, desc)
	d.set(queueAvail, 8, avail)
	d.set(queueUsed, 8, used)
}

// handBack gives the device to its driver again, as it was.
func (d *device) handBack() error {
	for _, reg := range []int{d.msix, regBAR, 0x3c, regCommand} {
		d.configWrite(reg, 4, uint64(binary.LittleEndian.Uint32(d.saved[reg:])))
	}
	return errors.Join(unix.Munmap(d.bar), d.config.Close(), os.WriteFile(pciDriver+"/bind", []byte(d.name), 0))
}
