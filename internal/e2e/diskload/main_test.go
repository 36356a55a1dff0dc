package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestMix loads a file in place of a device.
func TestMix(t *testing.T) {
	name := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(name, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := mix(name, &out); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), fmt.Sprintf("sha256: %x\n", sha256.Sum256(b))) {
		t.Errorf("the file isn't what %s says", &out)
	}
	// A block that is another one's, or an older one, is found.
	d := &device{name: name, writes: make([]uint32, 4<<20/block)}
	fill(b[block:2*block], 1, 1)
	d.writes[1] = 2
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.check(); err == nil {
		t.Error("an old block was taken for the new one")
	}
}

// TestFiles loses a file, and a part of one.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	for n := range 100 {
		if err := write(dir, n); err != nil {
			t.Fatal(err)
		}
	}
	if err := check(dir, 98); err != nil { // the last write wasn't reported
		t.Error(err)
	}
	whole := content(90)
	for _, b := range [][]byte{nil, content(50), content(91), whole[:len(whole)-1], bytes.Repeat([]byte{1}, len(whole))} {
		if err := os.WriteFile(path(dir, 90), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := check(dir, 98); err == nil {
			t.Errorf("file 90 was replaced by %d bytes, which wasn't found", len(b))
		}
	}
}

// TestSpeed times requests to a file.
func TestSpeed(t *testing.T) {
	name := filepath.Join(t.TempDir(), "disk")
	before := make([]byte, 1<<20)
	if err := os.WriteFile(name, before, 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := speed("disk", name, &out); err != nil {
		t.Fatal(err)
	}
	if got := regexp.MustCompile(`(?m)^speed: disk-(read|write)-(4|128)k [1-9]\d*$`).FindAllString(out.String(), -1); len(got) != len(kinds) {
		t.Errorf("%d lines, want %d:\n%s", len(got), len(kinds), &out)
	}
	after, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(before, after) {
		t.Error("nothing was written")
	}
	if err := os.Truncate(name, block-1); err != nil {
		t.Fatal(err)
	}
	if err := speed("disk", name, &out); err == nil {
		t.Error("requests to a file that is too small succeeded")
	}
}
