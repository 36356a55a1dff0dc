package vmm

import (
	"strings"
	"testing"
)

func TestPanicWatch(t *testing.T) {
	const mark = "[    1.2] Kernel panic - not syncing: VFS: no root\r\n"
	for _, c := range []struct {
		name   string
		writes []string
		want   string
	}{
		{"none", []string{"hello\nworld\n"}, ""},
		{"whole", []string{mark}, "Kernel panic - not syncing: VFS: no root"},
		{"by bytes", strings.Split(mark, ""), "Kernel panic - not syncing: VFS: no root"},
		{"first wins", []string{mark, strings.ReplaceAll(mark, "VFS", "later")}, "Kernel panic - not syncing: VFS: no root"},
		{"over two lines", []string{"Kernel panic -\n not syncing: x\n"}, ""},
		{"too late in a long line", []string{strings.Repeat("x", maxPanicLine), mark}, ""},
		{"not text", []string{"Kernel panic - not syncing: \xff\n"}, "Kernel panic - not syncing: ?"},
	} {
		var w panicWatch
		for _, s := range c.writes {
			if n, err := w.Write([]byte(s)); n != len(s) || err != nil {
				t.Fatalf("Write = %d, %v", n, err)
			}
		}
		if got, ok := w.seen(); got != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
