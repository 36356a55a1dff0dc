package debian

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// download fetches pkgs (each name=version) into dir. apt verifies them
// against the signed lists.
func (a *apt) download(ctx context.Context, pkgs []string, dir string, progress Progress) error {
	for i, p := range pkgs {
		progress.report("downloading "+p, float64(i)/float64(len(pkgs)))
		if _, err := a.run(ctx, dir, "apt-get", "download", p); err != nil {
			return err
		}
	}
	return nil
}

// unpack unpacks every package in dir into root, without running any of
// their scripts, and removes them.
func (a *apt) unpack(ctx context.Context, dir, root string) error {
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return err
	}
	if len(debs) == 0 {
		return fmt.Errorf("apt-get left no packages in %s", dir)
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	for _, deb := range debs {
		if err := unpackDeb(ctx, deb, root); err != nil {
			return err
		}
		if err := os.Remove(deb); err != nil {
			return err
		}
	}
	return nil
}
