package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"offmap/internal/render/report"
)

func newReportCmd() *cobra.Command {
	var output, pngs, title string
	cmd := &cobra.Command{
		Use:   "report [flags] RESULTS...",
		Short: "Make a page to look at of results, with charts",
		Long: `report reads JSON documents that offmap's commands wrote, and makes one HTML page
of them: what secret memory costs, in words and in charts, what attacks came to,
which limits hold, and what of a guest was exposed while it ran.

RESULTS are files of offmap bench, audit, limits, run and doctor with --json, and
traces of offmap run. Several of a kind stand side by side: other kernels, other
machines, before and after. Figures of emulated hosts never share an axis with
those of others.

The page works offline and has no script: it loads nothing.`,
		Example: `  offmap bench --json > bench.json && offmap audit --all --json > audit.json
  offmap report bench.json audit.json
  offmap report 6.1.json 6.12.json 7.3.json -o kernels.html --png charts`,
		Args: cobra.MinimumNArgs(1),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			return makeReport(cmd.Context(), args, output, pngs, title)
		}),
	}
	fl := cmd.Flags()
	fl.StringVarP(&output, "output", "o", "report.html", "write the page to `FILE`; - is stdout")
	fl.StringVar(&pngs, "png", "", "write the charts as PNG files too, into `DIR`")
	fl.StringVar(&title, "title", "", "title of the page")
	return cmd
}

func makeReport(ctx context.Context, files []string, output, pngs, title string) error {
	var sources []*report.Source
	for _, name := range files {
		s, err := waitFor(ctx, func() (*report.Source, error) { return readResults(name) })
		if err != nil {
			return err
		}
		sources = append(sources, s)
	}
	r := report.New(title, sources)
	var page bytes.Buffer
	if err := r.WriteHTML(&page); err != nil {
		return err
	}
	if pngs != "" {
		if err := writeCharts(ctx, r, pngs); err != nil {
			return err
		}
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

// writeCharts writes the charts into a directory, which is made if need be.
func writeCharts(ctx context.Context, r *report.Report, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write the charts: %w", err)
	}
	n := 0
	err := r.WritePNG(func(name string, png []byte) error {
		n++
		return writeTarget(ctx, filepath.Join(dir, name), func(w io.Writer) error { _, err := w.Write(png); return err })
	})
	if err != nil {
		return fmt.Errorf("write the charts: %w", err)
	}
	slog.Info(fmt.Sprintf("wrote %d charts into %s", n, dir))
	return nil
}
