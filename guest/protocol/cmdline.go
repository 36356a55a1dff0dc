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
	portKey  = "offmap.port"
	execKey  = "offmap.exec"
	shareKey = "offmap.share"
)

// PortWord is the word that tells a Linux guest of EventPort and ExitPort. A
// guest that isn't told of them powers off by ACPI, without an exit code.
const PortWord = portKey + "=0x6f0"

// ExecWord is the word that has a Linux guest run a shell command in place of
// an interactive shell, and then end with the command's exit code.
func ExecWord(command string) string {
	return execKey + "=" + base64.RawURLEncoding.EncodeToString([]byte(command))
}

// Share is a virtio-fs device, which process 1 mounts at /mnt/TAG.
type Share struct {
	Tag      string // CheckTag accepts it
	Writable bool
}

// MaxTag is the size in bytes of a tag in the device's configuration, virtio 1.2
// §5.11.4.
const MaxTag = 36

// CheckTag returns an error that says what is wrong with a tag, which becomes a word
// on the command line and the name of a directory.
func CheckTag(tag string) error {
	ok := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-", r)
	}
	switch {
	case tag == "" || len(tag) > MaxTag:
		return fmt.Errorf("tag %q: a tag has 1 to %d characters", tag, MaxTag)
	case strings.ContainsFunc(tag, func(r rune) bool { return !ok(r) }), strings.ContainsAny(tag[:1], ".-"):
		return fmt.Errorf("tag %q: a tag has letters, digits, and after the first character also any of . _ -", tag)
	}
	return nil
}

// ShareWord is the word that tells a Linux guest to mount a share. There is one for
// each share.
func ShareWord(s Share) string {
	w := shareKey + "=" + s.Tag
	if s.Writable {
		w += ",rw"
	}
	return w
}

// Options are what the command line tells a Linux guest.
type Options struct {
	// EventPort and ExitPort are 0 where the VMM has no such ports.
	EventPort, ExitPort uint16
	// Exec is the command to run, nil for an interactive shell.
	Exec *string
	// Shares are to be mounted.
	Shares []Share
	// Root is the root file system to go on in, nil for the initramfs itself.
	Root *Root
	// Console is the name of the terminal that the kernel takes for /dev/console,
	// such as hvc0, or "" if there is no such word.
	Console string
}

// Root is a root file system, from the kernel's own words root=, rootfstype=, rw and
// init=.
type Root struct {
	Source   string // a device, or the tag of a share
	Type     string // "" if not known
	Writable bool
	Init     string // "" for the usual ones
}

// ParseCmdline reads the words in a kernel command line. Where a key appears
// twice, the last one counts, as it does for the kernel. An error names the
// first word that is wrong; Options then hold what the others say.
func ParseCmdline(line string) (Options, error) {
	var o Options
	var root Root
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
		case shareKey:
			tag, mode, has := strings.Cut(value, ",")
			if err = CheckTag(tag); err == nil && has && mode != "rw" {
				err = fmt.Errorf("%q is not rw", mode)
			}
			if err == nil {
				o.Shares = append(o.Shares, Share{tag, has})
			}
		case "console":
			o.Console, _, _ = strings.Cut(value, ",")
		case "root":
			root.Source = value
		case "rootfstype":
			root.Type = value
		case "ro", "rw":
			root.Writable = key == "rw"
		case "init":
			root.Init = value
		}
		if err != nil && firstErr == nil {
			firstErr = fmt.Errorf("kernel command line: %s: %w", key, err)
		}
	}
	if root.Source != "" {
		o.Root = &root
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
