package audit

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTune(t *testing.T) {
	path := filepath.Join(t.TempDir(), "setting")
	for _, tt := range []struct{ was, put, back string }{
		{"1", "0", "1"},
		{"1\n", "1", "1\n"}, // nothing to do
		{"always [madvise] never\n", "never", "madvise"},
	} {
		if err := os.WriteFile(path, []byte(tt.was), 0o600); err != nil {
			t.Fatal(err)
		}
		restore, err := tune(path, tt.put)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); strings.TrimSpace(string(got)) != tt.put {
			t.Errorf("%q: set to %q, %v; want %q", tt.was, got, err, tt.put)
		}
		if err := restore(); err != nil {
			t.Error(err)
		}
		if got, err := os.ReadFile(path); string(got) != tt.back {
			t.Errorf("%q: put back %q, %v; want %q", tt.was, got, err, tt.back)
		}
	}
	if restore, err := tune(path+"-absent", "1"); err != nil || restore() != nil {
		t.Errorf("absent setting: %v", err)
	}
	if _, err := os.Stat(path + "-absent"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("absent setting: %v", err)
	}
}
