package agent

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// Kind says what a frame carries.
type Kind byte

// Frames to the inside.
const (
	Stdin  Kind = iota + 1 // bytes; none: end of file
	Signal                 // one byte: the number
	Resize                 // Terminal as JSON
	Beat                   // nothing, for the interrupt that comes with it
)

// Frames from the inside.
const (
	Ready     Kind = iota + 32 // the program is about to start
	StdinDone                  // the last Stdin frame has been taken; only then the next
	Stdout                     // bytes
	Stderr                     // bytes
	Ended                      // the program has ended
	KernelLog                  // bytes of the kernel's log, at the end
	Exit                       // Report as JSON, the last frame
)

// MaxPayload is the most that one frame carries.
const MaxPayload = 64 << 10

// Conn sends and receives frames. Send may be called concurrently.
type Conn struct {
	r  io.Reader
	mu sync.Mutex
	w  io.Writer
}

// NewConn makes a Conn of a port's two directions.
func NewConn(rw io.ReadWriter) *Conn { return &Conn{r: rw, w: rw} }

// Send sends payload in as many frames of the kind as it takes, at least one.
func (c *Conn) Send(k Kind, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		part := payload[:min(len(payload), MaxPayload)]
		payload = payload[len(part):]
		frame := make([]byte, 5, 5+len(part))
		frame[0] = byte(k)
		binary.LittleEndian.PutUint32(frame[1:], uint32(len(part)))
		if _, err := c.w.Write(append(frame, part...)); err != nil {
			return err
		}
		if len(payload) == 0 {
			return nil
		}
	}
}

// SendJSON sends v as JSON in one frame.
func (c *Conn) SendJSON(k Kind, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(text) > MaxPayload {
		return fmt.Errorf("frame of %d bytes, at most %d", len(text), MaxPayload)
	}
	return c.Send(k, text)
}

// Receive waits for the next frame. After the last one it returns io.EOF.
func (c *Conn) Receive() (Kind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.LittleEndian.Uint32(head[1:])
	if n > MaxPayload {
		return 0, nil, fmt.Errorf("frame of %d bytes, at most %d", n, MaxPayload)
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(c.r, payload); err != nil {
		return 0, nil, fmt.Errorf("frame cut short: %w", err)
	}
	return Kind(head[0]), payload, nil
}
