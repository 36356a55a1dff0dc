package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"offmap/internal/probe"
	"offmap/memory/attach"
)

// doctorReport is the JSON document of offmap doctor.
type doctorReport struct {
	Schema string     `json:"schema"`
	Host   probe.Host `json:"host"`
	probe.Report
}

func newDoctorCmd() *cobra.Command {
	var (
		asJSON bool
		method string
		memory = size(512 << 20)
	)
	cmd := &cobra.Command{
		Use:   "doctor [flags]",
		Short: "Say what this host can do for a secret guest",
		Long: `doctor checks what a guest with secret RAM needs from this host, a line each,
with a fix to paste where something is missing. It exits with 3 if no attach
works for secret RAM, or not the one asked for with --attach.`,
		Args: cobra.NoArgs,
		RunE: run(func(*cobra.Command, []string) error {
			want, err := attach.ParseMethod(method)
			if err != nil {
				return exitWith(exitUsage, err)
			}
			r := probe.Run(uint64(memory))
			if asJSON {
				err = printJSON(os.Stdout, doctorReport{"offmap/doctor/v1", probe.ThisHost(), r})
			} else {
				printDoctor(r)
			}
			if err != nil {
				return err
			}
			if !satisfies(r, want) {
				return exitWith(exitCheck, nil)
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&method, "attach", string(attach.Auto), "the attach that must work: "+names(attach.Methods()))
	cmd.Flags().VarP(&memory, "memory", "m", "secret RAM that is wanted: MiB, or with K, M, G")
	return cmd
}

// satisfies reports whether the attach works; auto is any of them.
func satisfies(r probe.Report, want attach.Method) bool {
	if want != attach.Auto {
		return r.Attach[want].Works
	}
	for _, w := range r.Attach {
		if w.Works {
			return true
		}
	}
	return false
}

func printDoctor(r probe.Report) {
	h := probe.ThisHost()
	fmt.Printf("Linux %s, %d CPUs, KVM %s (%s)\n\n", h.Kernel, h.CPUs, h.KVM, h.Accel)
	for _, c := range r.Checks {
		fmt.Printf("%-4s  %-13s %s\n", c.Status, c.Name, c.Detail)
		if c.Fix != "" {
			fmt.Printf("      %-13s fix: %s\n", "", c.Fix)
		}
	}
	fmt.Println("\nSecret guest RAM:")
	for _, m := range attach.Methods() {
		w, ok := r.Attach[m]
		switch {
		case !ok:
		case w.Works:
			fmt.Printf("  %-7s works\n", m)
		default:
			fmt.Printf("  %-7s doesn't work: %s\n", m, w.Reason)
		}
	}
}
