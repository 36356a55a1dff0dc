package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/pflag"

	"offmap/guest/agent"
	"offmap/guest/initramfs"
	"offmap/guest/payload"
	"offmap/guest/protocol"
	"offmap/internal/lab/debian"
	"offmap/internal/process/exitcode"
	"offmap/internal/regular"
	"offmap/vmm/boot"
)

// guestFlags are the flags that choose the guest.
type guestFlags struct {
	kernel  string
	initrd  string
	payload string
	exec    string
	append  string
	cmdline string
	spec    *agent.Spec // the command of exec, or nil
}

func (f *guestFlags) add(fl *pflag.FlagSet) {
	fl.StringVarP(&f.kernel, "kernel", "k", "", kernelUsage())
	fl.StringVarP(&f.initrd, "initrd", "i", "", "initrd `FILE` (default with debian:, a build tree and --exec: offmap's own initramfs)")
	fl.StringVar(&f.payload, "payload", "", "embedded guest to run without a kernel: "+strings.Join(payload.Names(), ", ")+" (default hello)")
	fl.StringVar(&f.exec, "exec", "", "shell command `CMD` for offmap's own initramfs to run; the guest then powers off\nwith its exit code")
	fl.StringVar(&f.append, "append", "", "`WORDS` for the end of the kernel's command line")
	fl.StringVar(&f.cmdline, "cmdline", "", "the whole kernel command line, in place of offmap's own")
}

func kernelUsage() string {
	return "`KERNEL` to boot: a bzImage or ELF file, a directory in which make has built a\nkernel and its modules, or debian:SERIES for a stock Debian cloud kernel\n(" + names(debian.KnownSeries()) + "; or an exact version, such as\ndebian:6.1=6.1.176-1), fetched if the cache doesn't have it"
}

// guestFiles loads a guest into RAM. Its files are open until Close.
type guestFiles struct {
	load   boot.Loader
	kernel bootKernel // zero for a payload
	files  []io.Closer
}

func (g *guestFiles) Close() error {
	var errs []error
	for _, f := range g.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// open checks the flags and opens the files that they name, so that a missing file is
// reported before a machine is made.
func (f *guestFlags) open(ctx context.Context, d deviceFlags) (*guestFiles, error) {
	if f.kernel == "" {
		return f.openPayload()
	}
	switch {
	case f.payload != "":
		return nil, usage("--kernel and --payload exclude each other")
	case f.append != "" && f.cmdline != "":
		return nil, usage("--append adds to offmap's own command line and --cmdline replaces it: use one")
	case f.exec != "" && f.cmdline != "":
		return nil, usage("--exec is passed on the command line, which --cmdline replaces: use one")
	}
	g := &guestFiles{}
	cfg, err := f.linux(ctx, g, d)
	if err != nil {
		return nil, errors.Join(err, g.Close())
	}
	cfg.Cmdline, cfg.Words = f.cmdline, f.words(d)
	cfg.OnCmdline = func(cmdline string) { slog.Debug("kernel command line: " + cmdline) }
	g.load = boot.LinuxLoader(cfg)
	return g, nil
}

// name describes the guest.
func (f *guestFlags) name() string {
	switch {
	case f.kernel != "":
		return f.kernel
	case f.payload != "":
		return "payload " + f.payload
	}
	return "payload " + defaultPayload
}

// drivesDisk reports whether the guest is a payload that uses a disk.
func (f *guestFlags) drivesDisk() bool {
	p, err := payload.Lookup(f.payload)
	return err == nil && p.Disk()
}

// defaultPayload is the guest if the flags name none.
const defaultPayload = "hello"

func (f *guestFlags) openPayload() (*guestFiles, error) {
	for _, x := range []struct{ name, value string }{
		{"--initrd", f.initrd}, {"--exec", f.exec}, {"--append", f.append}, {"--cmdline", f.cmdline},
	} {
		if x.value != "" {
			return nil, usage("%s needs a kernel: name one with --kernel", x.name)
		}
	}
	name := f.payload
	if name == "" {
		name = defaultPayload
	}
	p, err := payload.Lookup(name)
	if err != nil {
		return nil, exitWith(exitcode.Usage, err)
	}
	return &guestFiles{load: boot.PayloadLoader(p.Image(), boot.PayloadConfig{Ring: p.Ring})}, nil
}

// words are the words for the kernel's command line: those for offmap's own initramfs,
// and the user's.
func (f *guestFlags) words(d deviceFlags) string {
	w := []string{protocol.PortWord}
	if f.spec != nil {
		// The kernel's tests of its own ciphers take a fifth of its start, in the lab.
		w = append(w, "quiet", "cryptomgr.notests")
	} else {
		w = append(w, d.words()...)
	}
	if f.exec != "" {
		w = append(w, protocol.ExecWord(f.exec))
	}
	if f.append != "" {
		w = append(w, f.append)
	}
	return strings.Join(w, " ")
}

// linux opens kernel and initrd.
func (f *guestFlags) linux(ctx context.Context, g *guestFiles, d deviceFlags) (cfg boot.LinuxConfig, err error) {
	k, err := findKernel(ctx, f.kernel)
	if err != nil {
		return cfg, err
	}
	g.kernel = k
	if cfg.Kernel, err = g.file("kernel", k.image); err != nil {
		return cfg, err
	}
	switch {
	case f.initrd != "":
		cfg.Initrd, err = g.file("initrd", f.initrd)
	case k.modules != nil || f.exec != "" || f.spec != nil:
		var modules []string
		if modules, err = k.moduleFiles(d.drivers()...); err != nil {
			return cfg, err
		}
		cfg.Initrd, err = initramfs.New(initramfs.Options{Modules: modules, Exec: f.spec})
	}
	return cfg, err
}

// file opens a regular file until Close.
func (g *guestFiles) file(what, path string) (*io.SectionReader, error) {
	f, info, err := regular.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	g.files = append(g.files, f)
	return io.NewSectionReader(f, 0, info.Size()), nil
}
