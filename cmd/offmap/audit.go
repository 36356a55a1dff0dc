package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"offmap/internal/audit"
	"offmap/internal/probe"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/memory/exposure"
)

// auditReport is the JSON document of offmap audit.
type auditReport struct {
	Schema    string         `json:"schema"`
	Host      probe.Host     `json:"host"`
	Backend   memory.Backend `json:"backend"`
	Attach    attach.Method  `json:"attach"`
	Memory    uint64         `json:"memory_bytes"`
	Avenues   []audit.Avenue `json:"avenues"`
	Scans     []auditScan    `json:"scans"`
	DirectMap struct {
		Before audit.DirectMap `json:"before"`
		During audit.DirectMap `json:"during"`
		After  audit.DirectMap `json:"after"`
	} `json:"direct_map"`
}

// auditScan is the row of one guest: where its canary was found, in pages.
type auditScan struct {
	audit.Trial
	DirectAlive  int  `json:"direct_map_alive_pages"`
	DirectAfter  int  `json:"direct_map_after_pages"`
	OutsideAlive *int `json:"outside_alive_pages"`
	OutsideAfter *int `json:"outside_after_pages"`
}

func newAuditCmd() *cobra.Command {
	var (
		kernel, backend, method, control string
		asJSON                           bool
		memSize                          = size(512 << 20)
		window                           windowFlags
	)
	cmd := &cobra.Command{
		Use:   "audit [flags]",
		Short: "Attack a guest's RAM, and say what came of it",
		Long: `audit boots a guest that plants a random canary all over its RAM, and searches
the host kernel's direct map for it (/proc/kcore), while the guest runs and after
it is gone. It does the same to a control, the same guest in ordinary memory: the
guest counts as hidden only if the same search found the control's canary.

It needs root. In the lab the machine's RAM is searched from outside as well,
which shows that the canary is there. Exit code 3 if the guest's RAM was exposed,
or if the audit proved nothing.`,
		Args: cobra.NoArgs,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			c := audit.Config{
				Kernel: kernel, Memory: uint64(memSize), Outside: outsideScan(),
				Progress: func(what string) { slog.Info(what) },
			}
			var errs [3]error
			c.Backend, errs[0] = memory.ParseBackend(backend)
			c.Control, errs[1] = memory.ParseBackend(control)
			c.Attach, errs[2] = attach.ParseMethod(method)
			if err := errors.Join(errs[:]...); err != nil {
				return exitWith(exitUsage, err)
			}
			if window.size > 0 {
				opts, err := window.options(c.Backend, c.Attach, c.Memory)
				if err != nil {
					return err
				}
				c.Window = opts.Window
			}
			if !c.Control.Exposed() {
				return usage("--control %s can't show that the search finds anything: use an ordinary backend", c.Control)
			}
			r, err := audit.Run(cmd.Context(), c)
			if err != nil {
				return err
			}
			doc := newAuditReport(c, r)
			if asJSON {
				err = printJSON(os.Stdout, doc)
			} else {
				err = printAudit(os.Stdout, doc)
			}
			for _, a := range r.Avenues {
				if a.Verdict != audit.Blocked && err == nil {
					err = exitWith(exitCheck, nil)
				}
			}
			return err
		}),
	}
	fl := cmd.Flags()
	fl.StringVarP(&kernel, "kernel", "k", "debian:6.1", "`KERNEL` of the guests, as for offmap run")
	fl.VarP(&memSize, "memory", "m", "guest RAM: MiB, or with K, M, G")
	fl.StringVar(&backend, "backend", string(memory.Secret), "where the guest's RAM is at rest: "+names(memory.Backends()))
	fl.StringVar(&method, "attach", string(attach.Auto), "how it gets into KVM: "+names(attach.Methods()))
	window.addSize(fl)
	fl.StringVar(&control, "control", string(memory.Anon), "the control's backend")
	fl.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newAuditReport(c audit.Config, r audit.Result) auditReport {
	doc := auditReport{
		Schema: "offmap/audit/v1", Host: probe.ThisHost(),
		Backend: c.Backend, Attach: r.Target.Attach, Memory: c.Memory, Avenues: r.Avenues,
	}
	doc.DirectMap.Before, doc.DirectMap.During, doc.DirectMap.After = r.Before, r.During, r.After
	pages := func(h *exposure.Hits) *int {
		if h == nil {
			return nil
		}
		return &h.Pages
	}
	for _, t := range []audit.Trial{r.Control, r.Target} {
		doc.Scans = append(doc.Scans, auditScan{
			Trial: t, DirectAlive: t.Alive.Pages, DirectAfter: t.After.Pages,
			OutsideAlive: pages(t.OutsideAlive), OutsideAfter: pages(t.OutsideAfter),
		})
	}
	return doc
}

func printAudit(w io.Writer, doc auditReport) error {
	fmt.Fprintf(w, "Pages of guest RAM with the guest's canary (Linux %s, KVM %s, %s):\n\n", doc.Host.Kernel, doc.Host.KVM, doc.Host.Accel)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "backend\tattach\tplanted\tfound in the direct map\tafter exit\tin RAM, from outside\tafter exit\t")
	outside := func(n *int) string {
		if n == nil {
			return "-"
		}
		return strconv.Itoa(*n)
	}
	for _, s := range doc.Scans {
		fmt.Fprintf(tw, "%s\t%s\t%d\t%d\t%d\t%s\t%s\t\n", s.Backend, s.Attach, s.Planted,
			s.DirectAlive, s.DirectAfter, outside(s.OutsideAlive), outside(s.OutsideAfter))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, a := range doc.Avenues {
		_, err := fmt.Fprintf(w, "\n%s: %s\n  %s\n  control (%s): %s: %s\n", a.Name, a.Verdict, a.Evidence, a.Control.Backend, a.Control.Verdict, a.Control.Evidence)
		if err != nil {
			return err
		}
	}
	return nil
}
