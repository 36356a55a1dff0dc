// Package wire is what the host and the inside of a lab machine say to each
// other: the description of what to run, which travels in the initramfs, and
// the frames on the control port.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// Names of the virtio-serial ports. Inside, /dev/virtio-ports/NAME is the
// port's device.
const (
	ControlPort = "org.offmap.lab"
	FilesPort   = "org.offmap.files"
	ScanPort    = "org.offmap.scan"
)

// SpecPath is where the initramfs holds the Spec, as JSON.
const SpecPath = "/lab/spec.json"

// A Spec says what the inside of a lab machine has to do.
type Spec struct {
	// Modules are the paths of kernel modules to load, in this order.
	Modules []string `json:"modules"`
	// Offmap is the path of offmap.ko, or empty to go without.
	Offmap string `json:"offmap,omitempty"`
	// Swap has the disk swapped to that the machine has then.
	Swap bool `json:"swap,omitempty"`
	// Shares are host directories to mount at the same path; the index in
	// this list is the directory's name at the root of the file server.
	Shares []string `json:"shares"`
	// Path is the program, Argv its arguments with its name.
	Path string   `json:"path"`
	Argv []string `json:"argv"`
	Env  []string `json:"env"`
	Dir  string   `json:"dir"`
	// Terminal, if there, is what the program gets instead of pipes.
	Terminal *Terminal `json:"terminal,omitempty"`
}

// A Terminal is what a program sees of the user's terminal.
type Terminal struct {
	Rows uint16 `json:"rows"` // characters
	Cols uint16 `json:"cols"`
	// StderrPipe leaves stderr a pipe: the user has sent it elsewhere.
	StderrPipe bool `json:"stderr_pipe,omitempty"`
}

// A Kind says what a frame carries.
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

// A Report says how it went inside.
type Report struct {
	// Code is the program's exit code, 128+n after signal n.
	Code int `json:"code"`
	// Failure is what kept the program from being run, in words.
	Failure string `json:"failure,omitempty"`
	// Unload is why offmap.ko could not be unloaded afterwards.
	Unload string `json:"unload,omitempty"`
	// LostLog counts the kernel log records that were overwritten before
	// they could be read.
	LostLog uint64 `json:"lost_log,omitempty"`
}

// MaxPayload is the most that one frame carries.
const MaxPayload = 64 << 10

// A Conn sends and receives frames. Send may be called concurrently.
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
