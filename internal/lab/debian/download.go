package debian

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// download fetches pkgs, each as name=version, into dir. apt verifies them against
// the signed lists.
func (a *apt) download(ctx context.Context, pkgs []string, dir, what string, progress Progress) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		relayStatus(r, func(share float64) { progress.report("downloading "+what, share) })
	}()
	defer func() {
		w.Close()
		<-done
		r.Close()
	}()
	args := append([]string{"-c=" + a.conf, "-q", "-o", "APT::Status-Fd=3", "download"}, pkgs...)
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	cmd.Dir = dir
	cmd.ExtraFiles = []*os.File{w}
	_, err = runQuietly(ctx, cmd)
	return err
}

// relayStatus reads the lines that apt-get writes to APT::Status-Fd, such as
// "dlstatus:2:53.0491:Retrieving file 2 of 3". The third field is in percent.
func relayStatus(r io.Reader, report func(share float64)) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.SplitN(lines.Text(), ":", 4)
		if len(f) < 3 || f[0] != "dlstatus" {
			continue
		}
		if percent, err := strconv.ParseFloat(f[2], 64); err == nil {
			report(percent / 100)
		}
	}
}

// unpack unpacks every package in dir into root, without running any of
// their scripts, and removes them.
func (a *apt) unpack(ctx context.Context, dir, root string, progress Progress) error {
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return err
	}
	if len(debs) == 0 {
		return fmt.Errorf("apt-get left no packages in %s", dir)
	}
	// Since Debian 12 these are links into /usr. They are made first, because
	// some packages still have files in the old places.
	for _, d := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.MkdirAll(filepath.Join(root, "usr", d), 0o755); err != nil {
			return err
		}
		if err := os.Symlink("usr/"+d, filepath.Join(root, d)); err != nil {
			return err
		}
	}
	for i, deb := range debs {
		progress.report("unpacking", float64(i)/float64(len(debs)))
		if err := unpackDeb(ctx, deb, root); err != nil {
			return err
		}
		if err := os.Remove(deb); err != nil {
			return err
		}
	}
	return nil
}

// unpackDeb unpacks one package into root. It doesn't use dpkg-deb -x, which
// replaces links to directories by directories.
func unpackDeb(ctx context.Context, deb, root string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	tar := exec.CommandContext(ctx, "tar", "-x", "-C", root, "--keep-directory-symlink", "--no-same-owner",
		"--warning=no-timestamp", "--exclude=./usr/share/doc", "--exclude=./usr/share/man", "--exclude=./usr/share/locale")
	tar.Stdin = r
	var said strings.Builder
	tar.Stderr = &said
	stopWithContext(tar)
	if err := tar.Start(); err != nil {
		w.Close()
		return err
	}
	dpkg := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	dpkg.Stdout = w
	var complaint strings.Builder
	dpkg.Stderr = &complaint
	stopWithContext(dpkg)
	dpkgErr := dpkg.Run()
	w.Close()
	tarErr := tar.Wait()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case tarErr != nil:
		return runError("unpack "+deb, tarErr, []byte(said.String()))
	case dpkgErr != nil:
		return runError("dpkg-deb --fsys-tarfile "+deb, dpkgErr, []byte(complaint.String()))
	}
	return nil
}
