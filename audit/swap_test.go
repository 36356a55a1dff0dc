package audit

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"offmap/memory"
)

// TestSwap swaps to a zram device of its own where the host has no swap.
func TestSwap(t *testing.T) {
	devices, err := swapDevices()
	if err != nil {
		t.Fatal(err)
	}
	if len(devices) == 0 {
		zramSwap(t, 64<<20)
	}
	testFinds(t, swap, expect{
		memory.Anon: true, memory.Memfd: true,
		memory.Hugetlb: false, memory.Reserved: false, memory.Secret: false,
	})
}

// zramSwap adds swap to the host for the time of the test. zram compresses
// what it holds, and whoever reads the device sees it as it was.
func zramSwap(t *testing.T, size int64) {
	t.Helper()
	const control = "/sys/class/zram-control/"
	id, err := os.ReadFile(control + "hot_add")
	if err != nil {
		t.Skipf("SKIPPED, nothing was shown here: no swap, and no zram to make some: %v; in the lab: --module zram", err)
	}
	n := strings.TrimSpace(string(id))
	t.Cleanup(func() {
		if err := os.WriteFile(control+"hot_remove", []byte(n), 0); err != nil {
			t.Errorf("take zram%s away: %v", n, err)
		}
	})
	if err := os.WriteFile("/sys/block/zram"+n+"/disksize", []byte(fmt.Sprint(size)), 0); err != nil {
		t.Skipf("SKIPPED, nothing was shown here: zram: %v; in the lab of 6.1: --module lzo-rle", err)
	}
	device := "/dev/zram" + n
	if err := os.WriteFile(device, swapHeader(size), 0); err != nil {
		t.Fatal(err)
	}
	if err := swapon(device); err != nil {
		t.Fatalf("swapon %s: %v", device, err)
	}
	t.Cleanup(func() {
		if err := swapoff(device); err != nil {
			t.Errorf("swapoff %s: %v", device, err)
		}
	})
}

// swapHeader is the first page of a swap device, union swap_header of
// include/linux/swap.h: version and last page at 1024, a magic at the end.
func swapHeader(size int64) []byte {
	page := make([]byte, pageSize)
	page[1024] = 1
	last := uint32(size/pageSize - 1)
	for i := range 4 {
		page[1028+i] = byte(last >> (8 * i))
	}
	copy(page[pageSize-10:], "SWAPSPACE2")
	return page
}

func TestParseSwaps(t *testing.T) {
	const text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n" +
		"/dev/zram0                              partition\t65532\t\t0\t\t-2\n" +
		`/a\040dir/swap\134file` + "                      file\t\t65532\t\t0\t\t-3\n"
	want := []string{"/dev/zram0", `/a dir/swap\file`}
	if got := parseSwaps(strings.NewReader(text)); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
