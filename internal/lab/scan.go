package lab

import (
	"bufio"
	"io"
	"net"
	"os"
)

// maxRequest is the longest request line that a program may send.
const maxRequest = 64 << 10

// serveScans answers the request lines that come from inside, each with one
// line, until conn is closed.
func serveScans(conn net.Conn, ram *os.File, scan func(ram *os.File, request []byte) []byte) {
	lines := bufio.NewScanner(io.Reader(conn))
	lines.Buffer(nil, maxRequest)
	for lines.Scan() {
		reply := []byte(`{"error":"this lab can't scan its RAM from outside"}`)
		if scan != nil {
			reply = scan(ram, lines.Bytes())
		}
		if _, err := conn.Write(append(reply, '\n')); err != nil {
			return
		}
	}
}
