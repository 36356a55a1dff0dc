package memory

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseMeminfo(t *testing.T) {
	const text = "MemTotal:       24688816 kB\nMemAvailable:   1024 kB\nHugePages_Total:       3\n" +
		"DirectMap4k:  4 kB\nDirectMap2M:\nDirectMap1G: x kB\nOdd: 1 MB\nTooLarge: 18446744073709551615 kB\nnothing\n\n"
	want := Meminfo{"MemTotal": 24688816 << 10, "MemAvailable": 1 << 20, "HugePages_Total": 3, "DirectMap4k": 4096}
	got := ParseMeminfo(text)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if small, large, giant := got.DirectMap(); small != 4096 || large != 0 || giant != 0 {
		t.Errorf("direct map %d, %d, %d", small, large, giant)
	}
}

func TestReadMeminfo(t *testing.T) {
	m, err := ReadMeminfo()
	if err != nil || m["MemTotal"] == 0 || m["MemTotal"] < m["MemAvailable"] {
		t.Errorf("%d bytes, of which %d are available, %v", m["MemTotal"], m["MemAvailable"], err)
	}
}
