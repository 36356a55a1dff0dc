package debian

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/ulikunitz/xz"
	"golang.org/x/sync/errgroup"
)

// decompressModules decompresses every .ko.xz below dir, and removes the compressed
// file. Debian's modules are compressed from 6.12 on. Not every kernel can load
// compressed modules, and their dependencies are written inside them.
func decompressModules(ctx context.Context, dir string) error {
	var paths []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".ko.xz") {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for _, path := range paths {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := decompress(path); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			return nil
		})
	}
	return g.Wait()
}

func decompress(path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	r, err := xz.NewReader(in)
	if err != nil {
		return err
	}
	out, err := os.Create(strings.TrimSuffix(path, ".xz"))
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, r); err != nil {
		out.Close()
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return os.Remove(path)
}
