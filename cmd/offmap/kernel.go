package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"offmap/internal/kernel"
	"offmap/internal/lab/debian"
)

// debianPrefix marks a stock kernel from Debian's archive.
const debianPrefix = "debian:"

// A bootKernel is the kernel that --kernel names.
type bootKernel struct {
	image   string          // file
	release string          // the output of uname -r in it; empty if nobody knows
	tree    string          // the build tree that it is from; empty if there is none
	modules *kernel.Modules // nil for a file: nobody knows its modules
}

// findKernel finds the kernel that a value of --kernel names: a stock one of Debian's, which
// it fetches if need be, a build tree, or a file. A file isn't opened.
func findKernel(ctx context.Context, value string) (k bootKernel, err error) {
	if series, ok := strings.CutPrefix(value, debianPrefix); ok {
		stock, err := debian.GetKernel(ctx, series, func(what string, _ float64) {
			slog.Log(ctx, levelNotice, value+": "+what)
		})
		if err != nil {
			return k, err
		}
		slog.Debug(fmt.Sprintf("kernel %s, package version %s", stock.Release, stock.Version))
		k.image, k.release = stock.Image, stock.Release
		k.modules, err = stock.Modules()
		return k, err
	}
	if info, err := os.Stat(value); err != nil || !info.IsDir() {
		return bootKernel{image: value}, nil
	}
	tree, err := kernel.OpenTree(value)
	if err != nil {
		return k, fmt.Errorf("kernel: %w", err)
	}
	slog.Debug(fmt.Sprintf("kernel %s, %s", tree.Release, tree.Image))
	k.image, k.release, k.tree = tree.Image, tree.Release, tree.Dir
	if k.modules, err = tree.Modules(); err != nil {
		return k, fmt.Errorf("kernel: %w", err)
	}
	return k, nil
}

// moduleFiles returns the files of the modules to load for drivers, in this order, and
// for the pvpanic device, which every machine has, if the kernel has a driver. There are
// none for a kernel that is a file.
func (k bootKernel) moduleFiles(drivers ...string) ([]string, error) {
	if k.modules == nil {
		return nil, nil
	}
	const pvpanic = "pvpanic_mmio"
	if k.modules.Has(pvpanic) {
		drivers = append(drivers[:len(drivers):len(drivers)], pvpanic)
	}
	files, err := k.modules.Files(drivers...)
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	return files, nil
}
