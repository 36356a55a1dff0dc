package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"offmap/internal/render/report"
)

func newReportCmd() *cobra.Command {
	var output, title string
	cmd := &cobra.Command{
		Use:   "report [flags] RESULTS...",
		Short: "Make an HTML page of results, with charts",
		Long: `report reads JSON documents from offmap's commands, and makes one HTML page of
them. It shows what secret memory costs, in words and in charts, which attacks
exposed guest RAM, which limits hold, and how much of a guest was exposed while it
ran.

RESULTS are files from offmap bench, audit, limits, run and doctor with --json, and
from offmap run --exposure. Give several of a kind to compare kernels or machines.
Figures from emulated hosts never share an axis with figures from others.

The page works offline: it has no script and loads nothing. A browser can print it.`,
		Example: `  offmap bench --json > bench.json && offmap audit --all --json > audit.json
  offmap report bench.json audit.json
  offmap report 6.1.json 6.12.json 7.3.json -o kernels.html`,
		Args: cobra.MinimumNArgs(1),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			return makeReport(cmd.Context(), args, output, title)
		}),
	}
	fl := cmd.Flags()
	fl.StringVarP(&output, "output", "o", "report.html", "write the page to `FILE`; - is stdout")
	fl.StringVar(&title, "title", "", "title of the page")
	return cmd
}

func makeReport(ctx context.Context, files []string, output, title string) error {
	var sources []*report.Source
	for _, name := range files {
		s, err := waitFor(ctx, func() (*report.Source, error) { return readResults(name) })
		if err != nil {
			return err
		}
		sources = append(sources, s)
	}
	var page bytes.Buffer
	if err := report.New(title, sources).WriteHTML(&page); err != nil {
		return err
	}
	if output == "-" {
		if _, err := io.Copy(os.Stdout, &page); err != nil {
			return fmt.Errorf("write the page: %w", err)
		}
		return nil
	}
	kib := (page.Len() + 1023) / 1024
	if err := writeTarget(ctx, output, func(w io.Writer) error { _, err := page.WriteTo(w); return err }); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	slog.Info(fmt.Sprintf("wrote %s (%d KiB)", output, kib))
	return nil
}

func readResults(name string) (*report.Source, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return report.Read(name, f)
}
