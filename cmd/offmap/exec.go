package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"offmap/guest/agent"
	"offmap/internal/lab/debian"
	"offmap/internal/process/exitcode"
	"offmap/vmm"
)

// execFlags are the flags of offmap exec.
type execFlags struct {
	runFlags
	matrix    matrixFlags
	writable  []string
	dmesg     string
	artifacts string
}

func newExecCmd() *cobra.Command {
	f := execFlags{runFlags: runFlags{memory: vmm.DefaultMemory}}
	series := debian.KnownSeries()
	cmd := &cobra.Command{
		Use:   "exec [flags] -- COMMAND [ARG]...",
		Short: "Run a command of this machine in a guest",
		Long: `exec boots a guest and runs a command of this machine in it, as if it ran here: with
the same files, working directory, environment, user and umask. Standard input,
output and error are the command's, and so is the terminal. Signals go to the command,
and exec ends with its exit code, or with 128+n after signal n. The guest's RAM is
secret memory, as with run.

The guest sees all files of this machine that its user can read. What it writes goes
into its RAM, and is gone at the end, except below the directories of --rw, those that
a Go test program's flags name for its results, and $GOCOVERDIR. It has no network but
its own loopback. Processes that the command leaves behind end with it.

With several values of --kernel, --backend or --cpus the command runs in a guest for each
combination of them. Its standard input is empty then, each line of its output begins with
the guest's name, and a table of the results comes last, on standard error. The exit code
is 0 if the command's is 0 in all guests, else 3. A signal goes to the guests that run, and
no other starts. --json and --junit, with one guest too, leave standard input empty.

--artifacts makes DIR/dmesg.txt, the kernel's log, and DIR/guest, where the guest writes
core dumps (core.NAME.PID) and the kernel's coverage data (gcov). With several guests each
has a directory of its own below DIR. A core dump has what was in hidden RAM: it is a file
of the host's then.

exec itself ends with 125 if it fails, with 126 if the command can't be executed, with
127 if there is no such command, and with 2, 4, 32 to 34 and 124 as run does. It then
says why on standard error.`,
		Example: `  offmap exec -- uname -a
  offmap exec -k debian:6.1 -- make test
  offmap exec -k all --backend secret --backend anon --junit results.xml -- make test
  offmap exec -k ~/linux --rw . -- ./selftest -o result.txt
  go test -exec 'offmap exec -k debian:6.12 --' ./...`,
		Args:        cobra.ArbitraryArgs,
		Annotations: map[string]string{terse: ""},
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("exec: which command? Write it after --, such as: offmap exec -- uname -a")
			}
			verbose, err := cmd.Flags().GetBool("verbose")
			if err != nil {
				return err
			}
			cells := f.cells()
			if len(cells) > 1 || f.json || f.matrix.junit != "" {
				return execError(f.execMatrix(cmd.Context(), cells, args, givenFlags(cmd.Flags())))
			}
			return cells[0].exec(cmd.Context(), args, verbose)
		}),
	}
	fl := cmd.Flags()
	fl.SetInterspersed(false) // the command has flags of its own
	f.matrix.add(fl, series[len(series)-1])
	fl.StringVar(&f.guest.append, "append", "", "`WORDS` for the end of the kernel's command line")
	f.addMachine(fl)
	f.addExecDevices(fl)
	fl.BoolVar(&f.json, "json", false, "print the results, in JSON, on stdout, and the command's output on stderr")
	fl.StringVar(&f.report, "report", "", "write a report in JSON, as run's, to `FILE`")
	fl.StringVar(&f.artifacts, "artifacts", "", "leave in `DIR` the core dumps of the guest's programs, the coverage data of its\nkernel, and its kernel's log if the command fails")
	fl.StringVar(&f.dmesg, "dmesg", "", "write the guest kernel's log to `FILE`")
	return cmd
}

// addExecDevices adds the flags for the guest's devices.
func (f *execFlags) addExecDevices(fl *pflag.FlagSet) {
	f.devices.console, f.devices.agent = consoleSerial, true
	f.devices.disks.parse = parseDisk
	fl.StringArrayVar(&f.writable, "rw", nil, "let the command write to `DIR` and below. May be repeated")
	fl.Var(&f.devices.disks, "disk", diskUsage)
}

// Tags of the shares.
const (
	rootTag     = "host"
	writableTag = "rw" // with a number
)

// exec runs a command in a guest.
func (f execFlags) exec(ctx context.Context, argv []string, verbose bool) error {
	if f.gdb.stdio() {
		return usage("--gdb -: standard input is the command's: name an address or a socket")
	}
	spec, err := f.spec(argv)
	if err != nil {
		return execError(err)
	}
	f.guest.spec = spec
	if verbose {
		f.guest.append = strings.TrimSpace("loglevel=7 " + f.guest.append)
	}
	log := f.kernelLog()
	s, ctx, err := f.prepare(ctx, map[string]*string{"--dmesg": &f.dmesg, "--artifacts": &log})
	if err != nil {
		return execError(err)
	}
	defer s.end()
	x := execution{session: s, verbose: verbose, dmesg: f.dmesg, failed: log}
	return execError(x.run(ctx))
}

// execError gives an error without an exit code of its own the code that env(1) and
// docker use for their own failures, so that it isn't taken for the command's.
func execError(err error) error {
	if exitCode(err) == exitcode.Error {
		if _, ok := errors.AsType[*codeError](err); !ok {
			return exitWith(exitcode.Exec, err)
		}
	}
	return err
}

// spec describes the command to the guest, and adds the shares that it needs.
func (f *execFlags) spec(argv []string) (*agent.Spec, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("the working directory: %w", err)
	}
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("the working directory is gone: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	groups, err := os.Getgroups()
	if err != nil {
		return nil, err
	}
	user := agent.User{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	for _, g := range groups {
		user.Groups = append(user.Groups, uint32(g))
	}
	umask := unix.Umask(0)
	unix.Umask(umask)
	spec := &agent.Spec{
		Command:  agent.Command{Argv: argv, Env: os.Environ(), Dir: dir, User: &user, Umask: &umask},
		Root:     rootTag,
		Writable: map[string]string{},
		Hostname: host,
		Log:      f.dmesg != "" || f.artifacts != "",
	}
	if term.IsTerminal(0) && term.IsTerminal(1) {
		t := describeTerminal()
		spec.Terminal = &t
	}
	f.devices.shares.values = []shareValue{{dir: "/", tag: rootTag}}
	writable, err := writableDirs(append(outputDirs(argv, dir, os.Getenv("GOCOVERDIR")), f.writable...))
	if err != nil {
		return nil, err
	}
	for i, dir := range writable {
		tag := fmt.Sprint(writableTag, i)
		spec.Writable[dir] = tag
		f.devices.shares.values = append(f.devices.shares.values, shareValue{dir: dir, tag: tag, writable: true, flag: "--rw"})
	}
	return spec, f.addArtifacts(spec)
}

// writableDirs returns directories without symbolic links, and without those that are
// in another one.
func writableDirs(dirs []string) ([]string, error) {
	var paths []string
	for _, dir := range dirs {
		path, err := filepath.Abs(dir)
		if err == nil {
			path, err = filepath.EvalSymlinks(path)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, usage("--rw %s: there is no such directory", dir)
		case err != nil:
			return nil, fmt.Errorf("--rw %s: %w", dir, err)
		case path == "/":
			return nil, usage("--rw %s: the guest can't have all of this machine's files to write: name a directory below /", dir)
		}
		paths = append(paths, path)
	}
	slices.Sort(paths)
	var outer []string
	for _, path := range slices.Compact(paths) { // a directory comes before what is in it
		if !slices.ContainsFunc(outer, func(dir string) bool { return strings.HasPrefix(path, dir+"/") }) {
			outer = append(outer, path)
		}
	}
	return outer, nil
}
