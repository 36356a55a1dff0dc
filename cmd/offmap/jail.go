package main

import (
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"offmap/internal/process/unavailable"
	"offmap/vmm/gdb"
	"offmap/vmm/jail"
)

// jailFlags say how offmap confines itself before its guest starts.
type jailFlags struct {
	mode jailMode
	user string
}

// jailMode is --jail.
type jailMode string

const (
	jailOn     jailMode = "on"
	jailOff    jailMode = "off"
	jailStrict jailMode = "strict"
)

var jailModes = []jailMode{jailOn, jailOff, jailStrict}

func (f *jailFlags) add(fl *pflag.FlagSet) {
	f.mode = jailOn
	fl.Var(&f.mode, "jail", "how offmap is confined while its guest runs: on; strict, which refuses to run if the host\nlacks a part of that; or off, to debug offmap")
	fl.StringVar(&f.user, "user", "", "become `USER`, a name or number, before the guest starts. Only root can. That user must be\nallowed to read the shares, and to write the report and logs")
}

// check looks the user up.
func (f *jailFlags) check() (*jail.User, error) {
	if f.user == "" {
		return nil, nil
	}
	if f.mode == jailOff {
		return nil, usage("--user=%s needs the jail, and --jail=off switches it off", f.user)
	}
	u, err := user.Lookup(f.user)
	if err != nil {
		if u, err = user.LookupId(f.user); err != nil {
			return nil, usage("--user=%s: there is no such user", f.user)
		}
	}
	if os.Geteuid() != 0 {
		return nil, unavailable.New("--user="+f.user+": only root can become another user", "root, or no --user")
	}
	names, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("--user=%s: its groups: %w", f.user, err)
	}
	var groups []int
	for _, n := range append([]string{u.Uid, u.Gid}, names...) {
		id, err := strconv.Atoi(n)
		if err != nil {
			return nil, fmt.Errorf("--user=%s: %w", f.user, err)
		}
		groups = append(groups, id)
	}
	return &jail.User{UID: groups[0], GID: groups[1], Groups: groups[2:]}, nil
}

func (f *jailMode) String() string { return string(*f) }
func (*jailMode) Type() string     { return "MODE" }

func (f *jailMode) Set(s string) error {
	for _, m := range jailModes {
		if s == string(m) {
			*f = m
			return nil
		}
	}
	return fmt.Errorf("%q: it is %s", s, names(jailModes))
}

// enterJail gives up what this process doesn't need while the guest runs, and at its end.
func (s *session) enterJail() error {
	if s.jail.mode == jailOff {
		slog.Warn("--jail=off: a guest that takes over offmap may do whatever offmap's user may")
		return nil
	}
	missing, err := jail.Enter(s.rights())
	for _, m := range missing {
		if s.jail.mode == jailStrict {
			return unavailable.New("--jail=strict: this host lacks "+m, "a kernel with "+m)
		}
		slog.Warn("this host lacks " + m)
	}
	if err != nil {
		return fmt.Errorf("offmap can't confine itself before its guest starts (--jail=off runs it without that): %w", err)
	}
	return nil
}

// rights are what the flags need beside what every machine does.
func (s *session) rights() jail.Rights {
	// Devices at a window make buffers of secret memory, which is locked.
	r := jail.Rights{Accept: s.gdb.addr != "", User: s.become, Capabilities: []int{unix.CAP_IPC_LOCK}}
	if a, err := gdb.ParseAddress(s.gdb.addr); err == nil && a.Private() {
		r.Remove = append(r.Remove, filepath.Dir(s.gdb.addr))
	}
	for _, file := range s.outputs {
		if *file != "" {
			r.Write = append(r.Write, filepath.Dir(*file)) // a file is replaced by a new one
		}
	}
	if s.timeout > 0 && s.kernel.image != "" {
		r.Read = append(r.Read, filepath.Dir(s.kernel.image)) // for symbols.Find
		if s.kernel.tree != "" {
			r.Read = append(r.Read, s.kernel.tree)
		}
	}
	for _, v := range s.runFlags.devices.shares.values {
		if v.writable {
			r.Write = append(r.Write, v.dir)
		} else {
			r.Read = append(r.Read, v.dir)
		}
		if r.User != nil {
			continue
		}
		// Root serves the files of all users.
		r.Capabilities = append(r.Capabilities, unix.CAP_DAC_READ_SEARCH)
		if v.writable {
			r.Capabilities = append(r.Capabilities, unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID)
		}
	}
	return r
}
