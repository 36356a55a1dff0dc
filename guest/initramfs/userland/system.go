package userland

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"offmap/guest/agent"
)

// date prints the time.
func date([]string) error {
	fmt.Println(time.Now().Format(time.UnixDate))
	return nil
}

// dmesg prints the kernel's log, without the level and facility of a line.
func dmesg([]string) error {
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_SIZE_BUFFER, nil)
	if err != nil {
		return fmt.Errorf("size of the kernel's log: %w", err)
	}
	buf := make([]byte, n)
	if n, err = unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, buf); err != nil {
		return fmt.Errorf("read the kernel's log: %w", err)
	}
	var out bytes.Buffer
	for line := range bytes.Lines(buf[:n]) {
		if end := bytes.IndexByte(line, '>'); line[0] == '<' && end > 0 {
			line = line[end+1:]
		}
		out.Write(line)
	}
	_, err = out.WriteTo(os.Stdout)
	return err
}

// free prints the main figures of /proc/meminfo, in KiB.
func free([]string) error {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	for _, key := range []string{"MemTotal", "MemFree", "MemAvailable", "Cached", "SwapTotal"} {
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, key+":") {
				fmt.Print(line)
			}
		}
	}
	return nil
}

// insmod loads a kernel module: insmod FILE [PARAMETER=VALUE]... It also has the
// parameters that the kernel's command line has for the module.
func insmod(args []string) error {
	if len(args) == 0 {
		return usage("insmod FILE [PARAMETER=VALUE]...")
	}
	return agent.LoadModule(args[0], args[1:]...)
}

// kill sends a signal, by default SIGTERM: kill [-NUMBER] PID...
func kill(args []string) error {
	sig := uint64(unix.SIGTERM)
	if len(args) > 0 && strings.HasPrefix(args[0], "-") {
		var err error
		if sig, err = strconv.ParseUint(args[0][1:], 10, 7); err != nil {
			return usage("kill [-NUMBER] PID...")
		}
		args = args[1:]
	}
	if len(args) == 0 {
		return usage("kill [-NUMBER] PID...")
	}
	var errs []error
	for _, a := range args {
		pid, err := strconv.Atoi(a)
		if err == nil {
			err = unix.Kill(pid, unix.Signal(sig))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", a, err))
		}
	}
	return errors.Join(errs...)
}

// mount lists the mounts, or mounts: mount -t TYPE [-o DATA] SOURCE TARGET.
func mount(args []string) error {
	if len(args) == 0 {
		text, err := os.ReadFile("/proc/mounts")
		if err != nil {
			return err
		}
		_, err = os.Stdout.Write(text)
		return err
	}
	fs := flag.NewFlagSet("mount", flag.ContinueOnError)
	fstype := fs.String("t", "", "type of the file system")
	data := fs.String("o", "", "options of the file system itself")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() != 2 || *fstype == "" {
		return usage("mount [-t TYPE [-o DATA] SOURCE TARGET]")
	}
	if err := unix.Mount(fs.Arg(0), fs.Arg(1), *fstype, 0, *data); err != nil {
		return fmt.Errorf("%s on %s: %w", fs.Arg(0), fs.Arg(1), err)
	}
	return nil
}

// umount unmounts each of its arguments.
func umount(args []string) error {
	if len(args) == 0 {
		return usage("umount TARGET...")
	}
	var errs []error
	for _, a := range args {
		if err := unix.Unmount(a, 0); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", a, err))
		}
	}
	return errors.Join(errs...)
}

// ps lists the processes: PID, state, resident memory in KiB, command.
func ps([]string) error {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return err
	}
	// Sort by number: by length first.
	slices.SortFunc(stats, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	})
	fmt.Println("  PID S   RSS COMMAND")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended
		}
		line, err := psLine(string(text))
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		fmt.Println(line)
	}
	return nil
}

// psLine makes a line of ps from /proc/PID/stat (proc_pid_stat(5)). Field 2, the
// name, is in parentheses and may contain parentheses, so field 3 starts after the
// last one.
func psLine(stat string) (string, error) {
	pid, rest, ok := strings.Cut(stat, " (")
	end := strings.LastIndexByte(rest, ')')
	if !ok || end < 0 {
		return "", errors.New("no name in parentheses")
	}
	fields := strings.Fields(rest[end+1:]) // from field 3
	if len(fields) < 22 {
		return "", fmt.Errorf("%d fields after the name", len(fields))
	}
	rss, err := strconv.Atoi(fields[21]) // field 24, in pages
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%5s %s %5d %s", pid, fields[0], rss*pageSize/1024, rest[:end]), nil
}

// sleep waits: sleep SECONDS, which may have a fraction.
func sleep(args []string) error {
	if len(args) != 1 {
		return usage("sleep SECONDS")
	}
	s, err := strconv.ParseFloat(args[0], 64)
	if err != nil || !(s >= 0 && s < 1e9) {
		return fmt.Errorf("%q is not a number of seconds", args[0])
	}
	time.Sleep(time.Duration(s * float64(time.Second)))
	return nil
}

// uname prints all that uname(2) returns, or with -r only the kernel's release.
func uname(args []string) error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	fields := [][]byte{u.Sysname[:], u.Nodename[:], u.Release[:], u.Version[:], u.Machine[:]}
	if len(args) == 1 && args[0] == "-r" {
		fields = fields[2:3]
	}
	words := make([]string, len(fields))
	for i, f := range fields {
		words[i] = unix.ByteSliceToString(f)
	}
	fmt.Println(strings.Join(words, " "))
	return nil
}
