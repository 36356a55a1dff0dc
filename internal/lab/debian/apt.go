package debian

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// apt runs Debian's package tools with lists and caches of offmap's own.
type apt struct {
	dir    string // holds everything that apt reads and writes
	conf   string // its configuration, read after the machine's own
	unlock func()
}

func (a *apt) close() { a.unlock() }

var keyrings = []string{
	"/usr/share/keyrings/debian-archive-keyring.gpg",
	"/usr/share/keyrings/debian-archive-keyring.pgp",
}

// newApt writes apt's configuration for r below dir. It locks dir until it is
// closed.
func newApt(ctx context.Context, dir string, r release) (_ *apt, err error) {
	for _, tool := range []string{"apt-get", "apt-cache", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("%s is missing: kernels come from Debian's archive through apt, so this needs Debian or a derivative (with the packages apt and dpkg)", tool)
		}
	}
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", indexTargetFormat).Output()
	if err != nil {
		return nil, runError("apt-get indextargets", err, nil)
	}
	mirror := parseIndexTargets(string(out))
	for _, k := range keyrings {
		if _, err := os.Stat(k); err == nil {
			mirror.keyring = k
			break
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	unlock, err := lock(ctx, filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			unlock()
		}
	}()
	a := &apt{dir: dir, conf: filepath.Join(dir, "apt.conf"), unlock: unlock}
	for _, d := range []string{"lists/partial", "cache/archives/partial", "etc"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	files := map[string]string{
		"etc/sources.list": r.sourcesList(mirror),
		"etc/preferences":  r.preferences(),
		"etc/status":       "", // nothing is installed, so apt lists all dependencies
		"apt.conf":         aptConf(dir),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// aptConf returns an apt.conf(5). The machine's settings, such as proxies, stay in
// force, but not its package state and hooks.
func aptConf(dir string) string {
	set := [][2]string{
		{"Dir::Etc::sourcelist", dir + "/etc/sources.list"},
		{"Dir::Etc::sourceparts", "-"},
		{"Dir::Etc::preferences", dir + "/etc/preferences"},
		{"Dir::Etc::preferencesparts", "/dev/null"},
		{"Dir::State", dir},
		{"Dir::State::lists", dir + "/lists/"},
		{"Dir::State::status", dir + "/etc/status"},
		{"Dir::State::extended_states", dir + "/etc/extended_states"},
		{"Dir::Cache", dir + "/cache/"},
		{"Dir::Cache::archives", dir + "/cache/archives/"},
		{"Dir::Log", dir},
		{"APT::Architecture", "amd64"},
		{"APT::Install-Recommends", "false"},
		{"APT::Sandbox::User", ""}, // _apt may not read the user's cache
		{"Acquire::Languages", "none"},
		{"Acquire::Retries", "2"},
		{"Debug::NoLocking", "true"}, // newApt holds a lock
	}
	var b strings.Builder
	b.WriteString("#clear APT::Architectures;\n#clear APT::Update;\n#clear DPkg::Pre-Install-Pkgs;\n#clear DPkg::Post-Invoke;\n#clear Acquire::IndexTargets::deb::DEP-11;\n#clear Acquire::IndexTargets::deb::CNF;\n")
	for _, kv := range set {
		fmt.Fprintf(&b, "%s %q;\n", kv[0], kv[1])
	}
	return b.String()
}

// run runs one of apt's tools in dir and returns its stdout.
func (a *apt) run(ctx context.Context, dir, tool string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, tool, append([]string{"-c=" + a.conf, "-q"}, args...)...)
	cmd.Dir = dir
	return runQuietly(ctx, cmd)
}

// runQuietly runs cmd and returns its stdout. Its stderr goes into the error.
func runQuietly(ctx context.Context, cmd *exec.Cmd) ([]byte, error) {
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	stopWithContext(cmd)
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, runError(strings.Join(cmd.Args, " "), err, stderr.Bytes())
	}
	return stdout.Bytes(), nil
}

// stopWithContext makes the end of cmd's context end cmd's whole process group, since
// apt's download methods are children. They have time to clean up.
func stopWithContext(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
}

// runError returns an error with the failed command and the end of its stderr.
func runError(what string, err error, stderr []byte) error {
	if e, ok := errors.AsType[*exec.ExitError](err); ok && stderr == nil {
		stderr = e.Stderr
	}
	lines := strings.Split(strings.TrimSpace(string(stderr)), "\n")
	if len(lines) > 20 {
		lines = lines[len(lines)-20:]
	}
	if msg := strings.TrimSpace(strings.Join(lines, "\n")); msg != "" {
		return fmt.Errorf("%s: %w\n%s", what, err, msg)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// update fetches the package lists.
func (a *apt) update(ctx context.Context) error {
	_, err := a.run(ctx, a.dir, "apt-get", "update", "-o", "APT::Update::Error-Mode=any")
	return err
}
