// Package outside lets a program inside a lab machine have the machine's RAM
// searched from outside, by the lab on the host. What is found there but not
// in the direct map is in RAM and hidden.
package outside

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"offmap/internal/lab/wire"
	"offmap/memory/exposure"
)

// A Request is one line of JSON to the port, a Reply one from it.
type Request struct {
	// Canary is masked, as exposure.Canary's String gives it.
	Canary string `json:"canary"`
}

// Reply is what the scan found, or why there was none.
type Reply struct {
	Total        int    `json:"total"`
	Pages        int    `json:"pages"`
	ScannedBytes int64  `json:"scanned_bytes"`
	Error        string `json:"error,omitempty"`
}

const device = "/dev/virtio-ports/" + wire.ScanPort

// Available says whether this is the inside of a lab machine.
func Available() bool {
	_, err := os.Stat(device)
	return err == nil
}

// The port can be open only once.
var mu sync.Mutex

// Scan has the lab search all of the machine's RAM for the canary.
func Scan(c exposure.Canary) (exposure.Hits, error) {
	mu.Lock()
	defer mu.Unlock()
	reply, err := ask(Request{c.String()})
	if err != nil {
		return exposure.Hits{}, fmt.Errorf("scan from outside: %w", err)
	}
	return exposure.Hits{Total: reply.Total, Pages: reply.Pages, Scanned: reply.ScannedBytes}, nil
}

func ask(req Request) (Reply, error) {
	var reply Reply
	port, err := open()
	if err != nil {
		return reply, err
	}
	defer port.Close()
	text, err := json.Marshal(req)
	if err != nil {
		return reply, err
	}
	if _, err := port.Write(append(text, '\n')); err != nil {
		return reply, err
	}
	line, err := bufio.NewReader(port).ReadBytes('\n')
	if err != nil {
		return reply, err
	}
	if err := json.Unmarshal(line, &reply); err != nil {
		return reply, err
	}
	if reply.Error != "" {
		return reply, errors.New(reply.Error)
	}
	return reply, nil
}

// open waits for its turn while another process has the port.
func open() (*os.File, error) {
	const patience = 2 * time.Minute
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		f, err := os.OpenFile(device, os.O_RDWR, 0)
		if err == nil || !isBusy(err) || time.Since(start) > patience {
			return f, err
		}
	}
}

func isBusy(err error) bool { return errors.Is(err, syscall.EBUSY) }
