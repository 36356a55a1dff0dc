package limits

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"offmap/memory"
)

// attempt is a call that secret memory should refuse.
type attempt struct {
	name string
	// want is the errno that it should fail with; 0 is any.
	want unix.Errno
	// do makes the call on a fresh, populated area, and returns its error. One
	// that matches ErrSkipped is an attempt that couldn't be made.
	do func(*area) error
}

// attemptSize is an attempt's area, in bytes.
const attemptSize = 4 * memory.PageSize

// refused makes attempts on memory of backend b, and each on ordinary memory as
// well. An attempt that fails there too doesn't count.
func refused(b memory.Backend, attempts []attempt) (Observation, error) {
	var (
		seen    []string
		counted int
		o       = Observation{Holds: true}
	)
	for _, t := range attempts {
		control, err := try(memory.Memfd, t)
		if err != nil {
			return o, err
		}
		if control != nil {
			seen = append(seen, fmt.Sprintf("%s not counted (on ordinary memory: %s)", t.name, outcome(control)))
			continue
		}
		got, err := try(b, t)
		if err != nil {
			return o, err
		}
		if errors.Is(got, ErrSkipped) {
			return o, got
		}
		counted++
		seen = append(seen, t.name+" "+outcome(got))
		if got == nil || t.want != 0 && !errors.Is(got, t.want) {
			o.Holds = false
		}
	}
	o.Text = strings.Join(seen, ", ")
	if counted == 0 {
		return o, skipped("%s", o.Text)
	}
	o.Text += "; ordinary memory takes " + map[bool]string{true: "it", false: "all of that"}[counted == 1]
	return o, nil
}

// try makes one attempt. err says that the host has no such memory.
func try(b memory.Backend, t attempt) (result, err error) {
	a, err := newPopulated(b, attemptSize)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	a.mem[0] = 1
	return t.do(a), nil
}

// outcome is the errno of a call, or that it worked, or why it was not made.
func outcome(err error) string {
	if err == nil {
		return "works"
	}
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		if errno == unix.EOPNOTSUPP { // ENOTSUP has the same number
			return "EOPNOTSUPP"
		}
		return unix.ErrnoName(errno)
	}
	if e, ok := errors.AsType[*skip](err); ok {
		return e.why
	}
	return err.Error()
}
