package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lastWords end the log. A record that might still be continued is not to be
// read before another one follows it.
const lastWords = "<6>offmap: the end\n"

// SendKernelLog sends the kernel's log, and counts the records that were overwritten
// before they could be read.
func (c *Conn) SendKernelLog() (lost uint64, err error) {
	log, lost, err := kernelLog()
	if err != nil {
		return 0, err
	}
	return lost, c.Send(KernelLog, log)
}

// kernelLog reads the kernel's log from its beginning, formatted as dmesg
// does, and counts the records that were overwritten before.
// Documentation/ABI/testing/dev-kmsg has the format.
func kernelLog() (text []byte, lost uint64, err error) {
	if err := os.WriteFile("/dev/kmsg", []byte(lastWords), 0); err != nil {
		return nil, 0, err
	}
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, 0, &os.PathError{Op: "open", Path: "/dev/kmsg", Err: err}
	}
	defer unix.Close(fd)
	var (
		out  bytes.Buffer
		next uint64
		buf  = make([]byte, 16<<10)
	)
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return out.Bytes(), lost, nil
		case errors.Is(err, unix.EPIPE), errors.Is(err, unix.EINTR):
			continue // overwritten while we read: the next record's number tells
		case err != nil:
			return nil, 0, &os.PathError{Op: "read", Path: "/dev/kmsg", Err: err}
		}
		seq, line := formatRecord(string(buf[:n]))
		if seq > next {
			lost += seq - next
		}
		next = seq + 1
		out.WriteString(line)
	}
}

// formatRecord turns one record of /dev/kmsg into lines as on the console.
func formatRecord(rec string) (seq uint64, lines string) {
	head, msg, _ := strings.Cut(rec, ";")
	fields := strings.Split(head, ",")
	var usec uint64
	if len(fields) >= 3 {
		seq, _ = strconv.ParseUint(fields[1], 10, 64)
		usec, _ = strconv.ParseUint(fields[2], 10, 64)
	}
	msg, _, _ = strings.Cut(msg, "\n") // continuation lines are KEY=VALUE
	return seq, fmt.Sprintf("[%5d.%06d] %s\n", usec/1e6, usec%1e6, msg)
}
