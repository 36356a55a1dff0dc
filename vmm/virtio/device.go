// Package virtio is the device side of virtio 1.2: split virtqueues, and the PCI
// transport by which a driver sets a device up. Packages blk, fs, console and rng
// have the devices.
//
// Everything in a virtqueue is the guest's to write at any time. So each field is
// read once, copied, and checked (Queue). A driver that breaks the rules breaks its
// own device only: the device sets DEVICE_NEEDS_RESET and waits for a reset.
package virtio

// Device is a virtio device, without its transport.
//
// Its methods are called from several goroutines.
type Device interface {
	// Name is the name of the device in reports and in the log, such as "blk".
	Name() string
	// ID is the number of the device's type, virtio 1.2 §5.
	ID() uint16
	// Features are the feature bits of the device's type that it offers. The
	// transport adds those of rings and of the transport (§6).
	Features() uint64
	// QueueSizes has the largest size of each virtqueue, in descriptors: powers
	// of two. A driver may use smaller ones, and fewer of them.
	QueueSizes() []int
	// Config returns the device's configuration space (§2.5), always of the
	// same size. Drivers can't write to it.
	Config() []byte
	// Serve handles the requests of virtqueue i. It is called on a goroutine of
	// its own for each queue that the driver has enabled, when the driver sets
	// DRIVER_OK. It returns nil when Queue.Next returns ErrStopped, and then
	// uses q no more: all of its requests are done or dropped. Any other
	// error of Serve sets DEVICE_NEEDS_RESET. features are what the driver
	// has accepted.
	Serve(i int, q *Queue, features uint64) error
	// Stats returns what the device has done so far.
	Stats() Stats
	// Close frees what the device holds, when the machine has ended and no
	// Serve runs.
	Close() error
}
