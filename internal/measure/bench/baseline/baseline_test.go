package baseline

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// build makes the program once a test.
func build(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skip("SKIPPED: no C compiler")
	}
	path, err := Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestCommands holds that each command prints as many figures as its scenario
// reads, all of them positive.
func TestCommands(t *testing.T) {
	path := build(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args    string
		figures int
	}{
		{"blk " + file + " read sequence anon 128K 100 4", 1},
		{"blk " + file + " write random memfd 4K 100 4", 1},
		{"blk " + file + " read random secret 4K 100 4", 1},
		{"touch anon 4M 1", 3},
		{"touch memfd 4M 2", 3},
		{"touch secret 1M 1", 3},
		{"create memfd 32M", 2},
		{"exits out 100", 1},
		{"exits in 100", 1},
		{"exits mmio 100", 1},
		{"fault copy 100", 1},
		{"fault continue 100", 1},
		{"pager 512 64 500 7", 3},
	} {
		t.Run(c.args, func(t *testing.T) {
			got, err := Run(t.Context(), path, strings.Fields(c.args)...)
			for _, lack := range []string{"Function not implemented", "Operation not permitted", "Permission denied", "No such file"} {
				if err != nil && strings.Contains(err.Error(), lack) {
					t.Skipf("SKIPPED: %v", err)
				}
			}
			if err != nil || len(got) != c.figures {
				t.Fatalf("%v, %v; want %d figures", got, err, c.figures)
			}
			for _, f := range got {
				if f <= 0 || f > 1e9 {
					t.Errorf("%v: want nanoseconds", got)
				}
			}
		})
	}
}

// TestRefusals holds that what the program can't do is an error that says why.
func TestRefusals(t *testing.T) {
	path := build(t)
	for _, c := range []struct{ args, says string }{
		{"", "usage"},
		{"nothing", "usage"},
		{"touch anon", "usage: baseline touch"},
		{"touch nowhere 4K 1", "nowhere: no such memory"},
		{"touch anon 0 1", "0: not a positive number"},
		{"touch anon -1 1", "-1: not a positive number"},
		{"touch anon 4Kx 1", "4Kx: not a positive number"},
		{"touch anon 4K 2", "less than a page"},
		{"touch memfd 99999999999G 1", "not a positive number"},
		{"blk /dev/null read sequence anon 4K 1 1", "smaller than a request"},
		{"blk /dev/null over sequence anon 4K 1 1", "neither read nor write"},
		{"blk /dev/null read over anon 4K 1 1", "neither random nor sequence"},
		{"blk /nosuch read random anon 4K 1 1", "No such file"},
		{"exits over 1", "no such exit"},
		{"pager 64 64 1 1", "too many"},
		{"pager 64 8 1 0", "0: not a positive number"},
		{"fault over 1", "neither copy nor continue"},
		{"memory 1 1M", "usage: baseline memory"},
		{"memory 1 1M nothing:0:4096:0:1", "no such operation"},
		{"memory 1 1M read-8", "not :NUMBER"},
		{"memory 1 1M read-8:0:4096:0", "not :NUMBER"},
		{"memory 1 1M read-8:0:4096:0:1x", "more than an operation"},
		{"memory 1 1M read-8:0:2097152:0:1", "not in the memory"},
		{"memory 1 1M read-8:4096:1048576:0:1", "not in the memory"},
		{"memory 1 1M read-8:18446744073709551615:4096:0:1", "not in the memory"},
		{"memory 1 1M copy-8:0:1048576:0:1", "not in the memory"},
		{"memory 2 1M read-8:0:4096:0:1", "not in the memory"},
		{"memory 1 1M link:0:4096:24:1", "no ring has such nodes"},
		{"memory 1 1M read-8:0:4096:0:1", "sum of what was read"},
	} {
		figures, err := Run(t.Context(), path, strings.Fields(c.args)...)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v, %v; want %q", c.args, figures, err, c.says)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, path, "touch", "anon", "4K", "1"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestBuild holds that a missing compiler is told with its fix, and that
// nothing but the program is left.
func TestBuild(t *testing.T) {
	path := build(t)
	dir := strings.TrimSuffix(path, "/offmap-baseline")
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%v, %v in the directory; want the program", left, err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := Build(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "apt install gcc libc6-dev") {
		t.Errorf("without a compiler: %v", err)
	}
}
