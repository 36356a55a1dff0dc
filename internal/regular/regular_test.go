package regular

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	file, fifo, link := filepath.Join(dir, "file"), filepath.Join(dir, "fifo"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(fifo, 0o600); err != nil { // its open would wait for a writer
		t.Fatal(err)
	}
	if err := os.Symlink(fifo, link); err != nil {
		t.Fatal(err)
	}
	f, info, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if text, err := io.ReadAll(f); string(text) != "text" || err != nil || info.Size() != 4 {
		t.Errorf("read %q, %v; size %d", text, err, info.Size())
	}
	for _, path := range []string{dir, fifo, link, "/dev/null", filepath.Join(dir, "none")} {
		if f, _, err := Open(path); err == nil {
			f.Close()
			t.Errorf("opened %s", path)
		}
	}
}
