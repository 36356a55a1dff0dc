package main

import (
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/spf13/pflag"

	"offmap/guest/protocol"
	"offmap/internal/measure/guestrun"
	"offmap/internal/render/screen"
	"offmap/vmm/pci"
	"offmap/vmm/virtio"
	"offmap/vmm/virtio/blk"
	"offmap/vmm/virtio/console"
	"offmap/vmm/virtio/fs"
	"offmap/vmm/virtio/rng"
)

// deviceFlags are the flags for the guest's devices.
type deviceFlags struct {
	disks   listOf[diskValue]
	shares  listOf[shareValue]
	console string
	rng     bool
	agent   bool // a port and the drivers for the command of exec
}

func (f *deviceFlags) add(fl *pflag.FlagSet) {
	f.disks.parse, f.shares.parse = parseDisk, parseShare
	fl.Var(&f.disks, "disk", diskUsage)
	fl.Var(&f.shares, "share", "give the guest a directory: `DIR[=TAG][,rw]`, read-only without rw. offmap's own\ninitramfs mounts it at /mnt/TAG (default TAG: the directory's name). May be repeated")
	fl.StringVar(&f.console, "console", consoleSerial, "what the guest's console is: serial (ttyS0), or virtio (hvc0), which is faster")
	fl.BoolVar(&f.rng, "rng", false, "give the guest the host's random numbers (virtio-rng)")
}

const diskUsage = "give the guest a disk: `FILE[,OPTION]...` is a raw image or a block device. Options:\nro (the guest can't write), overlay (its writes are dropped at the end),\ncache=none (past the host's page cache). May be repeated: /dev/vda, /dev/vdb, ..."

// Values of --console.
const (
	consoleSerial = "serial"
	consoleVirtio = "virtio"
)

// check returns an error for devices that this guest can't have.
func (f *deviceFlags) check(g guestFlags) error {
	if f.console != consoleSerial && f.console != consoleVirtio {
		return usage("unknown console %q: have %s and %s", f.console, consoleSerial, consoleVirtio)
	}
	virtual := 0
	for _, x := range []struct {
		flag string
		n    int
	}{
		{"--disk", len(f.disks.values)}, {"--share", len(f.shares.values)},
		{"--console " + consoleVirtio, number(f.console == consoleVirtio)}, {"--rng", number(f.rng)}, {"exec", number(f.agent)},
	} {
		if x.n > 0 && g.kernel == "" && !(x.flag == "--disk" && g.drivesDisk()) {
			return usage("%s needs a kernel: name one with --kernel", x.flag)
		}
		virtual += x.n
	}
	if virtual > pci.MaxFunctions {
		return usage("%d devices: a guest has at most %d", virtual, pci.MaxFunctions)
	}
	return f.checkTags()
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// checkTags returns an error for two shares with one tag.
func (f *deviceFlags) checkTags() error {
	owner := map[string]string{}
	for _, v := range f.shares.values {
		tag := v.name()
		if other, taken := owner[tag]; taken {
			return usage("--share %s and --share %s both have the tag %s: write %s=TAG for another one", other, v.dir, tag, v.dir)
		}
		owner[tag] = v.dir
	}
	return nil
}

// listOf is a flag that may be given several times.
type listOf[T any] struct {
	values []T
	texts  []string
	parse  func(string) (T, error)
}

// Set, String and Type implement pflag.Value.
func (l *listOf[T]) Set(s string) error {
	v, err := l.parse(s)
	if err == nil {
		l.values, l.texts = append(l.values, v), append(l.texts, s)
	}
	return err
}

func (l *listOf[T]) String() string { return strings.Join(l.texts, " ") }
func (*listOf[T]) Type() string     { return "value" }

// GetSlice returns the values as they were given.
func (l *listOf[T]) GetSlice() []string { return l.texts }

// words are the words on the kernel's command line for the devices.
func (f *deviceFlags) words() (w []string) {
	for _, v := range f.shares.values {
		w = append(w, protocol.ShareWord(protocol.Share{Tag: v.name(), Writable: v.writable}))
	}
	if f.console == consoleVirtio {
		w = append(w, "console="+virtioConsole)
	}
	return w
}

// drivers are the modules that drive the devices. A kernel may have some of them built
// in.
func (f *deviceFlags) drivers() (drivers []string) {
	for _, x := range []struct {
		wanted bool
		driver string
	}{
		{len(f.disks.values) > 0, "virtio_blk"}, {len(f.shares.values) > 0, "virtiofs"},
		{f.console == consoleVirtio || f.agent, "virtio_console"}, {f.rng, "virtio_rng"}, {f.agent, "overlay"},
	} {
		if x.wanted {
			drivers = append(drivers, x.driver)
		}
	}
	if drivers != nil {
		drivers = append([]string{"virtio_pci"}, drivers...)
	}
	return drivers
}

// virtioConsole is Linux's name of the virtio console.
const virtioConsole = "hvc0"

// device is a device of the guest, and what the report says of it.
type device struct {
	virtio.Device
	doc guestrun.Device
}

// counted is implemented by all devices.
type counted interface{ Stats() virtio.Stats }

// report returns the device's part of the report.
func (d device) report() guestrun.Device {
	d.doc.Stats = d.Device.(counted).Stats()
	return d.doc
}

// devices are the devices of a guest.
type devices struct {
	list  []device
	typed *io.PipeWriter // the input of the virtio console, nil without one
}

// open opens the devices that the flags name, but for the console. The machine that gets
// them closes them.
func (f *deviceFlags) open() (d *devices, err error) {
	d = &devices{}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	for i, v := range f.disks.values {
		o := blk.Options{ReadOnly: v.readOnly, Overlay: v.overlay, Cache: blk.CacheBuffered, Log: warn}
		if v.direct {
			o.Cache = blk.CacheNone
		}
		disk, err := blk.Open(v.file, o)
		if err != nil {
			return d, err
		}
		d.list = append(d.list, device{disk, guestrun.Device{
			Kind: guestrun.Disk, Name: diskName(i), File: v.file, ReadOnly: v.readOnly, Overlay: v.overlay, Cache: string(o.Cache),
		}})
	}
	for _, v := range f.shares.values {
		share, err := fs.Open(v.dir, v.name(), v.writable)
		if err != nil {
			return d, err
		}
		d.list = append(d.list, device{share, guestrun.Device{
			Kind: guestrun.Share, Name: v.name(), File: v.dir, ReadOnly: !v.writable,
		}})
	}
	if f.rng {
		source, err := rng.New()
		if err != nil {
			return d, err
		}
		d.list = append(d.list, device{source, guestrun.Device{Kind: guestrun.Entropy, Name: "hwrng"}})
	}
	return d, nil
}

// close closes devices that no machine has.
func (d *devices) close() error {
	var errs []error
	for _, one := range d.list {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}

// diskName is Linux's name of a virtio disk, by its place among the disks: vda to vdz,
// then vdaa.
func diskName(i int) string {
	suffix := ""
	for i++; i > 0; i = (i - 1) / 26 {
		suffix = string(rune('a'+(i-1)%26)) + suffix
	}
	return "vd" + suffix
}

// addConsole adds a virtio console that writes to out.
func (d *devices) addConsole(out io.Writer) error {
	in, typed := io.Pipe()
	c, err := console.New(console.Port{Console: true, In: in, Out: out, OnError: warn})
	if err != nil {
		return err
	}
	d.typed = typed
	d.list = append(d.list, device{c, guestrun.Device{Kind: guestrun.Console, Name: virtioConsole}})
	return nil
}

// addPort adds a virtio console that has no terminal, but a port with a name.
func (d *devices) addPort(name string, in io.Reader, out io.Writer) error {
	c, err := console.New(console.Port{Name: name, In: in, Out: out})
	if err != nil {
		return err
	}
	d.list = append(d.list, device{c, guestrun.Device{Kind: guestrun.Console, Name: name}})
	return nil
}

// closeInput ends the input of the virtio console.
func (d *devices) closeInput() {
	if d.typed != nil {
		d.typed.Close()
	}
}

// virtio returns the devices for a machine.
func (d *devices) virtio() (list []virtio.Device) {
	for _, one := range d.list {
		list = append(list, one.Device)
	}
	return list
}

// report returns the devices' part of the report.
func (d *devices) report() []guestrun.Device {
	list := make([]guestrun.Device, len(d.list)) // [] in JSON, not null
	for i, one := range d.list {
		list[i] = one.report()
	}
	return list
}

// transferred returns what the guest has read and written so far: nothing for a guest
// without disks and shares.
func (d *devices) transferred() (list []screen.Transferred) {
	for _, kind := range []struct {
		guestrun.DeviceKind
		name string
	}{{guestrun.Disk, "disks"}, {guestrun.Share, "shares"}} {
		sum := screen.Transferred{Name: kind.name}
		n := 0
		for _, one := range d.report() {
			if one.Kind == kind.DeviceKind {
				n++
				sum.Read += one.ReadBytes
				sum.Written += one.WrittenBytes
			}
		}
		if n > 0 {
			list = append(list, sum)
		}
	}
	return list
}

// shared is a writer for several callers at a time.
type shared struct {
	mu sync.Mutex
	w  io.Writer
}

// Write implements io.Writer.
func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}
