package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// marker is the file that a read-only share has, and its content.
const (
	markerName    = "marker"
	markerContent = "as it was\n"
)

// driverOf drives a device as it wants to be driven: one request at a time, in the order
// of the avail ring. Its queues are in the descriptor area.
type driverOf struct {
	*device
	avail, used []uint16
}

// Where a good driver has what, in the arena.
const (
	goodIn    = 0
	goodOut   = 1 << 19
	goodRings = 1 << 20
	goodStep  = 1 << 16
	goodAvail = 1 << 14
	goodUsed  = 1 << 15
)

// drive resets a device and starts it. Nobody else uses it.
func drive(d *device) (*driverOf, error) {
	if err := d.reset(); err != nil {
		return nil, err
	}
	for _, at := range []int{goodIn, goodOut, goodRings} {
		clear(d.mem.mem[at : at+len(d.queues)*goodStep])
	}
	d.set(deviceStatus, 1, acknowledge|driver)
	d.accept(d.features() &^ (indirectDesc | eventIdx))
	d.set(deviceStatus, 1, acknowledge|driver|featuresOK)
	for i, size := range d.queues {
		at := d.mem.gpa + goodRings + uint64(i*goodStep)
		d.place(i, size, at, at+goodAvail, at+goodUsed)
		d.set(queueEnable, 2, 1)
	}
	d.set(deviceStatus, 1, acknowledge|driver|featuresOK|driverOK)
	if st := d.get(deviceStatus, 1); st != acknowledge|driver|featuresOK|driverOK {
		return nil, fmt.Errorf("%s: its status is %#x when it is set up", d, st)
	}
	return &driverOf{d, make([]uint16, len(d.queues)), make([]uint16, len(d.queues))}, nil
}

// send makes a request, and doesn't wait.
func (d *driverOf) send(queue int, in []byte, room int) {
	m := d.mem.mem[goodRings+queue*goodStep:]
	copy(d.mem.mem[goodIn+queue*goodStep:], in)
	b := desc{addr: d.mem.gpa + goodIn + uint64(queue*goodStep), len: uint32(len(in)), flags: flagNext, next: 1}
	out := desc{addr: d.mem.gpa + goodOut + uint64(queue*goodStep), len: uint32(room), flags: flagWrite}
	table := []desc{b, out}
	switch {
	case room == 0:
		table = []desc{{addr: b.addr, len: b.len}}
	case len(in) == 0:
		table = []desc{out}
	}
	for i, t := range table {
		b := t.bytes()
		copy(m[16*i:], b[:])
	}
	size := uint16(d.queues[queue])
	binary.LittleEndian.PutUint16(m[goodAvail+4+2*int(d.avail[queue]%size):], 0)
	d.avail[queue]++
	binary.LittleEndian.PutUint16(m[goodAvail+2:], d.avail[queue])
	d.kick(queue)
}

// wait waits until a request is used, and returns what the device has written.
func (d *driverOf) wait(queue int) ([]byte, error) {
	m := d.mem.mem[goodRings+queue*goodStep+goodUsed:]
	for start := time.Now(); binary.LittleEndian.Uint16(m[2:]) == d.used[queue]; time.Sleep(100 * time.Microsecond) {
		if st := d.get(deviceStatus, 1); st&needsReset != 0 {
			return nil, fmt.Errorf("%s: its status is %#x after a good request", d, st)
		}
		if time.Since(start) > patience {
			return nil, fmt.Errorf("%s: no answer after %v", d, patience)
		}
	}
	elem := m[4+8*int(d.used[queue]%uint16(d.queues[queue])):]
	d.used[queue]++
	if id, n := binary.LittleEndian.Uint32(elem), binary.LittleEndian.Uint32(elem[4:]); id != 0 || n > goodStep {
		return nil, fmt.Errorf("%s: used element %d with %d bytes", d, id, n)
	} else {
		return bytes.Clone(d.mem.mem[goodOut+queue*goodStep:][:n]), nil
	}
}

func (d *driverOf) request(queue int, in []byte, room int) ([]byte, error) {
	d.send(queue, in, room)
	return d.wait(queue)
}

// alive makes a request of a device, which has to answer it correctly.
func (d *device) alive() error {
	good, err := drive(d)
	if err != nil {
		return err
	}
	switch d.kind {
	case blk:
		err = good.blk()
	case fs:
		err = good.fs()
	case rng:
		err = good.rng()
	case console:
		err = good.console()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", d, err)
	}
	return d.reset()
}

// words are 64-bit numbers in memory's order.
func words(v ...uint64) (b []byte) {
	for _, v := range v {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// blk writes a sector and reads it.
func (d *driverOf) blk() error {
	const sector = 3
	data := bytes.Repeat([]byte("hostile!"), 64)
	if out, err := d.request(0, append(words(1, sector), data...), 1); err != nil || !bytes.Equal(out, []byte{0}) {
		return fmt.Errorf("answer %x to a write, %w", out, errOr(err))
	}
	if out, err := d.request(0, words(0, sector), 513); err != nil || !bytes.Equal(out, append(data, 0)) {
		return fmt.Errorf("answer %.20x to a read, %w", out, errOr(err))
	}
	return nil
}

// fs reads the marker, or makes a directory if it may.
func (d *driverOf) fs() error {
	ask := func(op uint32, node uint64, body []byte) (answer []byte, errno int32, err error) {
		out, err := d.request(1, append(fuseHeader(op, len(body), node), body...), 4096)
		if err == nil && (len(out) < 16 || binary.LittleEndian.Uint32(out) != uint32(len(out))) {
			err = fmt.Errorf("answer %.20x to request %d", out, op)
		}
		if err != nil {
			return nil, 0, err
		}
		return out[16:], int32(binary.LittleEndian.Uint32(out[4:])), nil
	}
	if _, errno, err := ask(26, 0, words(7|31<<32, 0)); errno != 0 || err != nil { // INIT
		return fmt.Errorf("answer %d to INIT, %w", errno, errOr(err))
	}
	_, errno, err := ask(9, 1, append(words(0o755), fmt.Sprintf("alive%d\x00", time.Now().UnixNano())...)) // MKDIR
	if err != nil || errno == 0 || errno == -28 {                                                          // ENOSPC
		return err
	}
	if errno != -30 { // EROFS
		return fmt.Errorf("answer %d to MKDIR", errno)
	}
	out, errno, err := ask(1, 1, []byte(markerName+"\x00")) // LOOKUP
	if err != nil || errno != 0 || len(out) < 8 {
		return fmt.Errorf("answer %d, %.20x to LOOKUP, %w", errno, out, errOr(err))
	}
	node := binary.LittleEndian.Uint64(out)
	if out, errno, err = ask(14, node, words(0)); err != nil || errno != 0 || len(out) < 8 { // OPEN
		return fmt.Errorf("answer %d, %.20x to OPEN, %w", errno, out, errOr(err))
	}
	if out, _, err = ask(15, node, words(binary.LittleEndian.Uint64(out), 0, 100, 0, 0)); err != nil || string(out) != markerContent { // READ
		return fmt.Errorf("read %q, %w", out, errOr(err))
	}
	return nil
}

func fuseHeader(op uint32, body int, node uint64) []byte {
	return words(uint64(op)<<32|uint64(40+body), 1, node, 0, 0)
}

func (d *driverOf) rng() error {
	out, err := d.request(0, nil, 64)
	if err != nil || len(out) != 64 || bytes.Equal(out, make([]byte, 64)) {
		return fmt.Errorf("random bytes %x, %w", out, errOr(err))
	}
	return nil
}

// consoleLine is what console writes.
const consoleLine = "the virtio console of a hostile driver works\n"

// console asks for the ports, and writes a line to the first one.
func (d *driverOf) console() error {
	d.send(2, nil, 64)
	if _, err := d.request(3, words(1<<48), 0); err != nil { // DEVICE_READY
		return err
	}
	out, err := d.wait(2)
	if want := words(1<<48 | 1<<32); err != nil || !bytes.Equal(out, want) { // PORT_ADD
		return fmt.Errorf("control message %x, want %x, %w", out, want, errOr(err))
	}
	_, err = d.request(1, []byte(consoleLine), 0)
	return err
}

var errAnswer = errors.New("which is wrong")

func errOr(err error) error {
	if err == nil {
		return errAnswer
	}
	return err
}
