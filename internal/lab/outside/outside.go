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

	"offmap/audit/canary"
	"offmap/guest/agent"
	"offmap/internal/lab/wire"
)

// A Request is one line of JSON to the port, a Reply one from it.
type Request struct {
	// Canaries are masked, as canary.Canary's String gives them.
	Canaries []string `json:"canaries"`
}

// Reply is what the scan found of each canary, or why there was none.
type Reply struct {
	Hits  []canary.Hits `json:"hits"`
	Error string        `json:"error,omitempty"`
}

var device = agent.PortDevice(wire.ScanPort)

// Available says whether this is the inside of a lab machine.
func Available() bool {
	_, err := os.Stat(device)
	return err == nil
}

// The port can be open only once.
var mu sync.Mutex

// Scan has the lab search all of the machine's RAM for canaries. It returns
// the hits of each.
func Scan(canaries ...canary.Canary) ([]canary.Hits, error) {
	mu.Lock()
	defer mu.Unlock()
	var req Request
	for _, c := range canaries {
		req.Canaries = append(req.Canaries, c.String())
	}
	reply, err := ask(req)
	if err == nil && len(reply.Hits) != len(canaries) {
		err = fmt.Errorf("hits of %d canaries, asked for %d", len(reply.Hits), len(canaries))
	}
	if err != nil {
		return nil, fmt.Errorf("scan from outside: %w", err)
	}
	return reply.Hits, nil
}

func ask(req Request) (Reply, error) {
	var reply Reply
	port, err := open()
	if err != nil {
		return reply, err
	}
	defer port.Close()
	if err := port.SetDeadline(time.Now().Add(patience)); err != nil {
		return reply, err
	}
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

// patience is how long a search may take, and how long another process may have
// the port. It takes seconds.
const patience = 2 * time.Minute

// open waits for its turn while another process has the port.
func open() (*os.File, error) {
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		f, err := os.OpenFile(device, os.O_RDWR, 0)
		if err == nil || !isBusy(err) || time.Since(start) > patience {
			return f, err
		}
	}
}

func isBusy(err error) bool { return errors.Is(err, syscall.EBUSY) }
