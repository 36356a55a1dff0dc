package lab

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNeededSeries(t *testing.T) {
	got := NeededSeries([]string{
		"run", "-k", "debian:6.1", "--kernel=debian:7.x", "-k", "debian:6.1",
		"--append", "see debian:6.12 for that", "mydebian:6.12", "debian:",
	})
	if diff := cmp.Diff([]string{"6.1", "7.x"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestNeededDirs(t *testing.T) {
	tmp := t.TempDir()
	cwd := filepath.Join(tmp, "cwd")
	other := filepath.Join(tmp, "other")
	for _, d := range []string{filepath.Join(cwd, "sub"), other} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(other, "bzImage"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		args []string
		want []string
	}{
		{"none", []string{"run", "-m", "512", "--append", "console=ttyS0"}, nil},
		{"a file that is there", []string{"-k", other + "/bzImage"}, []string{other}},
		{"a file to write", []string{"--report=" + other + "/new.json"}, []string{other}},
		{"a directory", []string{other + "/"}, []string{other}},
		{"each once", []string{other + "/a", other + "/b"}, []string{other}},
		{"above the current directory", []string{"../other/bzImage"}, []string{other}},
		{"below it", []string{"./bzImage", "sub/x", cwd + "/y"}, nil},
		{"nowhere", []string{other + "/no/such/file"}, nil},
		{"what makes up the machine", []string{"/proc/self/maps", "/dev/kvm", "/sys", "/", "/x"}, nil},
		{"a shell command", []string{"--exec", "cat /proc/meminfo"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, NeededDirs(cwd, tt.args)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestShares(t *testing.T) {
	tests := []struct {
		dir    string
		shares []string
		want   []string
	}{
		{"/home/me/src", []string{"/home/me/.cache/offmap"}, []string{"/home/me/src", "/home/me/.cache/offmap"}},
		{"/home/me", []string{"/home/me/.cache/offmap", "/home/me/", "/home/mel"}, []string{"/home/me", "/home/mel"}},
		{"/", []string{"/cache"}, []string{"/cache"}},
		{"/dev/shm", []string{"/cache"}, []string{"/cache"}},
	}
	for _, tt := range tests {
		cfg := Config{Dir: tt.dir, Shares: tt.shares}
		if diff := cmp.Diff(tt.want, cfg.shares()); diff != "" {
			t.Errorf("%s with %q (-want +got)\n%s", tt.dir, tt.shares, diff)
		}
	}
}

func TestEnvironment(t *testing.T) {
	got := Environment([]string{"HOME=/home/me", "TERM=xterm", "OFFMAP_CACHE=/elsewhere", "OFFMAP_DEBUG=1",
		"GODEBUG=x=1", "LD_PRELOAD=/x.so", "SECRET_TOKEN=1"}, "/cache")
	want := []string{"OFFMAP_CACHE=/cache", "TERM=xterm", "OFFMAP_DEBUG=1", "GODEBUG=x=1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
