package gdb

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// maxPacket is the most bytes of a packet between $ and #. It has room for all
// registers, and the client is told of it.
const maxPacket = 0x4000

// errTooLong is the error of a packet longer than maxPacket.
var errTooLong = errors.New("a packet is too long")

// message is what a client sends.
type message struct {
	data      []byte // of a packet, unescaped
	bad       bool   // a packet whose checksum is wrong
	interrupt bool   // Ctrl-C, outside of packets
}

// read returns the next message. What is between messages, such as acknowledgements,
// is left out: over a stream that loses nothing they say nothing.
func read(r *bufio.Reader) (m message, err error) {
	for {
		b, err := r.ReadByte()
		switch {
		case err != nil:
			return m, err
		case b == 0x03:
			return message{interrupt: true}, nil
		case b == '$':
			return readPacket(r)
		}
	}
}

// readPacket reads a packet behind its $.
func readPacket(r *bufio.Reader) (m message, err error) {
	var sum byte
	escaped := false
	for n := 0; ; n++ {
		b, err := r.ReadByte()
		if err != nil {
			return m, err
		}
		if b == '#' {
			break
		}
		if n == maxPacket {
			return m, errTooLong
		}
		sum += b
		switch {
		case escaped:
			m.data, escaped = append(m.data, b^escapeBit), false
		case b == escape:
			escaped = true
		default:
			m.data = append(m.data, b)
		}
	}
	var hex [2]byte
	if _, err := io.ReadFull(r, hex[:]); err != nil {
		return m, err
	}
	m.bad = escaped || string(hex[:]) != fmt.Sprintf("%02x", sum) && string(hex[:]) != fmt.Sprintf("%02X", sum)
	return m, nil
}

const (
	escape    = '}'
	escapeBit = 0x20
)

// appendEscaped appends data as a packet has it.
func appendEscaped(p, data []byte) []byte {
	for _, b := range data {
		switch b {
		case '$', '#', '*', escape:
			p = append(p, escape, b^escapeBit)
		default:
			p = append(p, b)
		}
	}
	return p
}

// appendPacket appends a packet whose data is escaped already.
func appendPacket(p []byte, data []byte) []byte {
	var sum byte
	for _, b := range data {
		sum += b
	}
	p = append(append(p, '$'), data...)
	return fmt.Appendf(p, "#%02x", sum)
}
