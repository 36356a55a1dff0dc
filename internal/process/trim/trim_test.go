package trim

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// mapping is an entry of smaps.
func mapping(addresses, perms, file string, anonymous int) string {
	return fmt.Sprintf("%s %s 00000000 fd:01 1234                       %s\nSize:                120 kB\nRss:                  80 kB\nAnonymous:            %d kB\nVmFlags: rd ex mr mw me\n",
		addresses, perms, file, anonymous)
}

func TestClean(t *testing.T) {
	const exe = "/usr/bin/offmap"
	code, data := mapping("00400000-00991000", "r-xp", exe, 0), mapping("00fa8000-0139c000", "rw-p", exe, 0)
	tests := []struct {
		name, smaps string
		want        []span
		err         bool
	}{
		{"code and constants", code + mapping("00991000-00fa8000", "r--p", exe, 0) + data + mapping("0139c000-0339c000", "rw-p", "", 84),
			[]span{{0x400000, 0x991000}, {0x991000, 0xfa8000}}, false},
		{"relocated by a linker", mapping("a00000-b00000", "rw-p", "", 4) + code + mapping("00991000-00fa8000", "r--p", exe, 12) + data,
			[]span{{0x400000, 0x991000}}, false},
		{"a breakpoint", mapping("00400000-00991000", "r-xp", exe, 4), nil, false},
		{"other files", mapping("00400000-00991000", "r-xp", "/lib/ld.so", 0), nil, true},
		{"nothing", "", nil, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := clean(strings.NewReader(tt.smaps), exe)
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(span{})); diff != "" || (err != nil) != tt.err {
				t.Errorf("error %v (-want +got)\n%s", err, diff)
			}
		})
	}
}

// TestProgram gives back what this program has read of itself, and goes on.
func TestProgram(t *testing.T) {
	before := residentFile(t)
	unmap, err := Program()
	if err != nil {
		t.Fatal(err)
	}
	if err := unmap(); err != nil {
		t.Fatal(err)
	}
	if after := residentFile(t); after > before*3/4 {
		t.Errorf("%d KiB of the program's files are resident, and were %d before", after, before)
	}
}

// residentFile returns RssFile of proc_pid_status(5), in KiB.
func residentFile(t *testing.T) (kib int) {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if n, _ := fmt.Sscanf(lines.Text(), "RssFile: %d kB", &kib); n == 1 {
			return kib
		}
	}
	t.Fatal("no RssFile")
	return 0
}
