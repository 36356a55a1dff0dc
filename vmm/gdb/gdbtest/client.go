// Package gdbtest is a client of GDB's remote serial protocol, for tests of the server.
package gdbtest

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Patience bounds the wait for a reply or a stop. It catches hangs only.
const Patience = 5 * time.Minute

// Client is a client.
type Client struct {
	conn net.Conn
	r    *bufio.Reader
}

// Numbers of registers, as the target description has them.
const (
	RAX, RBX, RSP, RIP = 0, 1, 7, 16
	CR3                = 44
)

// New begins a session as GDB does, and returns the first stop's reply.
func New(conn net.Conn) (c *Client, stop string, err error) {
	c = &Client{conn: conn, r: bufio.NewReader(conn)}
	if _, err = c.Do("qSupported:multiprocess+;swbreak+;hwbreak+;vContSupported+"); err != nil {
		return nil, "", err
	}
	stop, err = c.Do("?")
	return c, stop, err
}

// Close closes the connection, without a word.
func (c *Client) Close() error { return c.conn.Close() }

// Do sends a packet and returns the reply.
func (c *Client) Do(packet string) (string, error) {
	if err := c.Send(packet); err != nil {
		return "", err
	}
	reply, err := c.Receive()
	if err != nil {
		err = fmt.Errorf("%.40q: %w", packet, err)
	}
	return reply, err
}

// Send sends a packet.
func (c *Client) Send(packet string) error {
	var sum byte
	for i := range len(packet) {
		sum += packet[i]
	}
	return c.Raw(fmt.Sprintf("$%s#%02x", packet, sum))
}

// Raw sends bytes.
func (c *Client) Raw(b string) error {
	if err := c.conn.SetDeadline(time.Now().Add(Patience)); err != nil {
		return err
	}
	_, err := io.WriteString(c.conn, b)
	return err
}

// Interrupt sends a Ctrl-C.
func (c *Client) Interrupt() error { return c.Raw("\x03") }

// Receive returns the next packet.
func (c *Client) Receive() (string, error) {
	if _, err := c.r.ReadString('$'); err != nil {
		return "", err
	}
	data, err := c.r.ReadString('#')
	if err != nil {
		return "", err
	}
	if _, err := c.r.Discard(2); err != nil {
		return "", err
	}
	_ = c.Raw("+") // a server that is gone doesn't want it
	return strings.TrimSuffix(data, "#"), nil
}

// OK sends a packet whose reply has to be OK.
func (c *Client) OK(packet string) error {
	reply, err := c.Do(packet)
	if err == nil && reply != "OK" {
		err = fmt.Errorf("%q: the reply is %q", packet, reply)
	}
	return err
}

// Register returns a register of 64 bits.
func (c *Client) Register(n int) (uint64, error) {
	reply, err := c.Do(fmt.Sprintf("p%x", n))
	if err != nil {
		return 0, err
	}
	b, err := hex.DecodeString(reply)
	if err == nil && len(b) != 8 {
		err = fmt.Errorf("register %d: %q", n, reply)
	}
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

// Memory reads n bytes of guest memory.
func (c *Client) Memory(addr uint64, n int) ([]byte, error) {
	reply, err := c.Do(fmt.Sprintf("m%x,%x", addr, n))
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(reply, "E") {
		return nil, errors.New("memory: " + reply)
	}
	return hex.DecodeString(reply)
}
