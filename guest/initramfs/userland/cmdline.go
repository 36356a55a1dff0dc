package userland

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// options is what the host tells us on the kernel command line. Its words
// have a dot, which makes the kernel keep them to itself instead of passing
// them to process 1, Documentation/admin-guide/kernel-parameters.rst.
type options struct {
	// port is offmap.port=: the report port, zero for none. A byte written to
	// it is an event, and one to the port after it the machine's exit code.
	port uint16
	// exec is offmap.exec=: a shell command, in unpadded URL-safe base64, to
	// run in place of the interactive shell.
	exec *string
}

// parseCmdline picks our words from a kernel command line. Of a word that
// is there twice the last counts, as for the kernel. What is good of it is
// returned with an error as well.
func parseCmdline(line string) (options, error) {
	var o options
	var firstErr error
	for _, word := range strings.Fields(line) {
		key, value, _ := strings.Cut(word, "=")
		var err error
		switch key {
		case "offmap.port":
			var n uint64
			if n, err = strconv.ParseUint(value, 0, 16); err == nil {
				if n == math.MaxUint16 {
					err = errors.New("no port after it")
					break
				}
				o.port = uint16(n)
			}
		case "offmap.exec":
			var b []byte
			if b, err = base64.RawURLEncoding.DecodeString(value); err == nil {
				s := string(b)
				o.exec = &s
			}
		}
		if err != nil && firstErr == nil {
			firstErr = fmt.Errorf("kernel command line: %s: %w", key, err)
		}
	}
	return o, firstErr
}
