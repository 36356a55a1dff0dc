package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"

	"offmap/audit/canary"
	"offmap/internal/lab/outside"
)

// serveScans answers the requests that come from inside, a line each, until
// conn is closed or ctx ends.
func serveScans(ctx context.Context, conn net.Conn, ram *os.File) {
	requests := bufio.NewScanner(conn)
	for requests.Scan() {
		reply, err := scanRAM(ctx, ram, requests.Bytes())
		if err != nil {
			reply.Error = err.Error()
		}
		line, err := json.Marshal(reply)
		if err != nil {
			return
		}
		if _, err := conn.Write(append(line, '\n')); err != nil {
			return
		}
	}
}

// scanRAM searches the RAM of the running machine.
func scanRAM(ctx context.Context, ram *os.File, request []byte) (outside.Reply, error) {
	var req outside.Request
	if err := json.Unmarshal(request, &req); err != nil {
		return outside.Reply{}, fmt.Errorf("the request: %w", err)
	}
	var canaries []canary.Canary
	for _, text := range req.Canaries {
		c, err := canary.Parse(text)
		if err != nil {
			return outside.Reply{}, err
		}
		canaries = append(canaries, c)
	}
	hits, err := canary.ScanFile(ctx, fmt.Sprintf("/proc/self/fd/%d", ram.Fd()), canaries, nil)
	return outside.Reply{Hits: hits}, err
}
