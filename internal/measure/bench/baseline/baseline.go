// Package baseline builds and runs a C program that makes the same system calls and
// memory accesses as offmap's benchmarks, and nothing else. Its results are the
// baseline for offmap's.
package baseline

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// The sources are in a directory of their own, because the go command would take C
// files beside Go files as cgo's.
//
//go:embed src
var sources embed.FS

// Build compiles the program into dir, an existing directory, and returns its
// path. It is linked statically, so that it runs in a system without libraries.
func Build(ctx context.Context, dir string) (path string, err error) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		return "", fmt.Errorf("building the C baseline: %w: install a compiler (apt install gcc libc6-dev)", err)
	}
	src, err := os.MkdirTemp(dir, "baseline-src-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(src)
	sub, err := fs.Sub(sources, "src")
	if err != nil {
		return "", err
	}
	if err := os.CopyFS(src, sub); err != nil {
		return "", err
	}
	files, err := filepath.Glob(filepath.Join(src, "*.c"))
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "offmap-baseline")
	// Makefile has the same flags.
	args := append([]string{"-O2", "-static", "-pthread", "-o", path}, files...)
	if out, err := exec.CommandContext(ctx, cc, args...).CombinedOutput(); err != nil {
		os.Remove(path)
		return "", fmt.Errorf("building the C baseline: %s: %w: it needs gcc and a static libc (apt install gcc libc6-dev):\n%s", cc, err, out)
	}
	return path, nil
}

// Run runs a command of the program at path. It returns the numbers that the
// program prints.
func Run(ctx context.Context, path string, args ...string) ([]float64, error) {
	name := "C baseline " + strings.Join(args, " ")
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if said := strings.TrimSpace(stderr.String()); said != "" {
			return nil, fmt.Errorf("%s: %w: %s", name, err, said)
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var figures []float64
	for _, word := range strings.Fields(string(out)) {
		f, err := strconv.ParseFloat(word, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		figures = append(figures, f)
	}
	if len(figures) == 0 {
		return nil, errors.New(name + ": it printed nothing")
	}
	return figures, nil
}
