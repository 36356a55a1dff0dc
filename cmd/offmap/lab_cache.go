package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"offmap/internal/lab/debian"
	"offmap/memory/kmod"
)

func newLabListCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the lab's kernels, and those that are in the cache",
		Args:  cobra.NoArgs,
		RunE:  run(func(*cobra.Command, []string) error { return listLabs() }),
	}
}

func listLabs() error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SERIES\tRELEASE\tPACKAGE\tMODULE")
	exact, err := debian.CachedExact()
	if err != nil {
		return err
	}
	for _, s := range append(debian.KnownSeries(), exact...) {
		k, err := debian.Cached(s)
		if errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintf(w, "%s\t-\tnot fetched\t-\n", s)
			continue
		}
		if err != nil {
			return err
		}
		built := "built"
		path, err := debian.ModulePath(k, kmod.Sources)
		if err != nil {
			return err
		}
		if _, err := os.Stat(path); err != nil {
			built = "not built"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s, k.Release, k.Version, built)
	}
	return w.Flush()
}

func newLabFetchCmd() *cobra.Command {
	var update bool
	cmd := &cobra.Command{
		Use:   "fetch [flags] [SERIES]...",
		Short: "Fetch kernels and build the module for them (default all)",
		Long: `fetch puts the lab's kernels into the cache, each with its compiler and headers,
and builds offmap.ko for each. After that the lab needs no network. A kernel that
the cache has stays, unless --update finds a newer one.

SERIES=VERSION, such as 6.1=6.1.176-1, is exactly that version of Debian's
package, and --update doesn't replace it. If the archive doesn't have the version,
the error lists those that it has.`,
		RunE: run(func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{"all"}
			}
			series, err := chosenSeries(args)
			if err != nil {
				return err
			}
			return fetchLabs(cmd.Context(), series, update)
		}),
	}
	cmd.Flags().BoolVar(&update, "update", false, "replace kernels of which the archive has a newer version")
	return cmd
}

func fetchLabs(ctx context.Context, series []string, update bool) error {
	get := debian.GetKernel
	if update {
		get = debian.UpdateKernel
	}
	for _, s := range series {
		err := withProgress(ctx, "debian:"+s, func(p debian.Progress) error {
			k, err := get(ctx, s, p)
			if err == nil {
				_, err = debian.BuildModule(ctx, k, kmod.Sources, p)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return listLabs()
}
