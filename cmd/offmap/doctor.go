package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"offmap/internal/measure/probe"
	"offmap/internal/process/exitcode"
	"offmap/internal/render/results"
	"offmap/internal/render/table"
	"offmap/memory"
	"offmap/memory/attach"
)

func newDoctorCmd() *cobra.Command {
	var (
		asJSON          bool
		backend, method string
		ram             = size(512 << 20)
	)
	cmd := &cobra.Command{
		Use:   "doctor [flags]",
		Short: "Say what this host can do for a guest",
		Long: `doctor runs a small guest with every backend and attach, and checks whether this
host has what guests need. It prints a line for each check. If something is
missing, it prints a command to paste.

Exit code 3 if a guest with --memory, --backend and --attach can't run here.`,
		Example: `  offmap doctor
  offmap doctor --attach bridge -m 4G && offmap run -k debian:6.1 --attach bridge -m 4G
  offmap lab --kernel all -- doctor`,
		Args: cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			b, err := memory.ParseBackend(backend)
			if err != nil {
				return exitWith(exitcode.Usage, err)
			}
			m, err := attach.ParseMethod(method)
			if err != nil {
				return exitWith(exitcode.Usage, err)
			}
			if err := checkRAM(ram); err != nil {
				return err
			}
			host := probe.ThisHost()
			r, err := probe.Run(cmd.Context(), probe.Config{Backend: b, Memory: uint64(ram)})
			if err != nil {
				return err
			}
			doc := &probe.Document{Schema: probe.Schema, Host: host, Report: r}
			if asJSON {
				err = printJSON(os.Stdout, doc)
			} else {
				err = printDoctor(os.Stdout, doc, b, terminalText(os.Stdout))
			}
			if err != nil {
				return err
			}
			if !r.Can(b, m) {
				return exitWith(exitcode.Check, nil)
			}
			return nil
		}),
	}
	fl := cmd.Flags()
	fl.BoolVar(&asJSON, "json", false, "print JSON")
	fl.StringVar(&backend, "backend", string(memory.Secret), "kind of memory to hold guest RAM: "+names(memory.Backends()))
	fl.StringVar(&method, "attach", string(attach.Auto), "the attach that must work: "+names(attach.Methods()))
	fl.VarP(&ram, "memory", "m", "guest RAM to run with: MiB, or with K, M, G")
	return cmd
}

// terminalText writes tables for a file. If the file is a terminal, they are as wide as
// it is, and in colour.
func terminalText(f *os.File) (t table.Text) {
	if cols, _, err := term.GetSize(int(f.Fd())); err == nil {
		t.Width, t.Color = cols, os.Getenv("NO_COLOR") == ""
	}
	return t
}

// printDoctor prints first what works, then what is wrong, then the rest.
func printDoctor(w io.Writer, doc *probe.Document, wanted memory.Backend, trials table.Text) error {
	checks := trials
	trials.Indent, checks.More = "  ", true
	h := doc.Host
	_, err := fmt.Fprintf(w, "Linux %s, %d CPUs, KVM %s (%s)\n\n%s\n%s", h.Kernel, h.CPUs, h.KVM, h.Accel,
		trials.Write(results.TrialsOn(doc, wanted)), checks.Write(results.Checks(doc)))
	return err
}
