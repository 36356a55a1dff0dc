package gdb

import (
	"os"
	"path/filepath"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for text, want := range map[string]Address{
		":1234":           {"tcp", "127.0.0.1:1234"},
		"localhost:1234":  {"tcp", "127.0.0.1:1234"},
		"127.0.0.2:0":     {"tcp", "127.0.0.2:0"},
		"[::1]:1234":      {"tcp", "[::1]:1234"},
		"./socket":        {"unix", "./socket"},
		"/run/a:b":        {"unix", "/run/a:b"},
		"":                {},
		"socket":          {},
		"1234":            {},
		":":               {},
		":65536":          {},
		":-1":             {},
		"0.0.0.0:1234":    {},
		"[::]:1234":       {},
		"*:1234":          {},
		"192.0.2.1:1234":  {},
		"example.com:80":  {},
		"localhost.:1234": {},
	} {
		got, err := ParseAddress(text)
		if got != want || (err == nil) != (want != Address{}) {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
}

// TestListen holds that a socket is its user's only, that another server doesn't take
// its place, and that it is removed at the end.
func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	s, err := Listen(t.Context(), Address{"unix", path})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := Listen(t.Context(), Address{"unix", path}); err == nil {
		t.Error("two servers at one address")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error("the socket is still there")
	}
}
