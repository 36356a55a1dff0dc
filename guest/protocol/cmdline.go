package protocol

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Keys of the words on the kernel's command line. A word with a dot in its key
// isn't passed on to process 1 as an argument or a variable
// (Documentation/admin-guide/kernel-parameters.rst).
const (
	portKey = "offmap.port"
	execKey = "offmap.exec"
)

// PortWord is the word that tells a Linux guest of EventPort and ExitPort. A
// guest that isn't told of them powers off by ACPI, without an exit code.
const PortWord = portKey + "=0x6f0"

// ExecWord is the word that has a Linux guest run a shell command in place of
// an interactive shell, and then end with the command's exit code.
func ExecWord(command string) string {
	return execKey + "=" + base64.RawURLEncoding.EncodeToString([]byte(command))
}

// Options are what the command line tells a Linux guest.
type Options struct {
	// EventPort and ExitPort are 0 where the VMM has no such ports.
	EventPort, ExitPort uint16
	// Exec is the command to run, nil for an interactive shell.
	Exec *string
}

// ParseCmdline reads the words in a kernel command line. Where a key appears
// twice, the last one counts, as it does for the kernel. An error names the
// first word that is wrong; Options then hold what the others say.
func ParseCmdline(line string) (Options, error) {
	var o Options
	var firstErr error
	for _, word := range strings.Fields(line) {
		key, value, _ := strings.Cut(word, "=")
		var err error
		switch key {
		case portKey:
			err = o.setPort(value)
		case execKey:
			var b []byte
			if b, err = base64.RawURLEncoding.DecodeString(value); err == nil {
				s := string(b)
				o.Exec = &s
			}
		}
		if err != nil && firstErr == nil {
			firstErr = fmt.Errorf("kernel command line: %s: %w", key, err)
		}
	}
	return o, firstErr
}

func (o *Options) setPort(value string) error {
	n, err := strconv.ParseUint(value, 0, 16)
	if err != nil {
		return err
	}
	exit := n + ExitPort - EventPort
	if n == 0 || exit > math.MaxUint16 {
		return errors.New("not a port with another one after it")
	}
	o.EventPort, o.ExitPort = uint16(n), uint16(exit)
	return nil
}
