package payload

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"offmap/guest/protocol"
)

// The layout of a program and the kinds are the same in the assembly and in Go.
func TestBenchMatchesAssembly(t *testing.T) {
	src, err := os.ReadFile("asm/bench.S")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int64{
		"MARK": protocol.EventMark, "COUNT": benchCount, "LEAST": benchLeast, "RESULTS": benchResults,
		"MARKS": benchMarks, "MARKINGS": BenchMarkings, "OPS": benchOps, "OP_SHIFT": benchShift,
		"OP_KIND": benchKind, "OP_BASE": benchBase, "OP_SIZE": benchSize, "OP_STRIDE": benchStride,
		"OP_CYCLES": benchCycles, "R_START": benchStart, "R_END": benchEnd, "R_UNITS": benchUnits,
	} {
		m := regexp.MustCompile(fmt.Sprintf(`\.set %s,\s*(\w+)`, name)).FindSubmatch(src)
		if m == nil {
			t.Errorf("%s is not set in asm/bench.S", name)
			continue
		}
		if got, err := strconv.ParseInt(string(m[1]), 0, 64); err != nil || got != want {
			t.Errorf("%s = %s in asm/bench.S, %d here", name, m[1], want)
		}
	}
	var kinds []BenchKind
	for _, m := range regexp.MustCompile(`(?m)^\tkind\t.*# (\S+)$`).FindAllSubmatch(src, -1) {
		kinds = append(kinds, BenchKind(m[1]))
	}
	if !slices.Equal(kinds, benchKinds) {
		t.Errorf("kinds in asm/bench.S: %q\nhere: %q", kinds, benchKinds)
	}
}

func TestEncodeBench(t *testing.T) {
	ops := []BenchOp{{BenchFill, 1, 2, 0, 0}, {BenchChase, 3, 4, 5, 6}}
	b, err := EncodeBench(ops, 3, 0x1000, 99)
	if err != nil || len(b) != benchOps+2*64+2*3*64 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	if got := DecodeBench(b, 2, 3); len(got.Stretches) != 2 || len(got.Stretches[1]) != 3 || got.Stretches[1][2] != (BenchStretch{}) {
		t.Errorf("before the guest: %+v", got)
	}
	for at, want := range map[int]byte{0: 2, 8: 99, 17: 0x11, 16: 0xc0, 320: 0, 328: 1, 336: 2, 384: 4, 392: 3, 400: 4, 408: 5, 416: 6} {
		if b[at] != want {
			t.Errorf("byte %d is %#x, want %#x", at, b[at], want)
		}
	}
	// The last result, and the marks at both ends.
	b[len(b)-64], b[len(b)-56], b[len(b)-48] = 7, 8, 9
	b[64], b[72], b[64+16*8], b[64+16*15+8] = 1, 2, 3, 4
	r := DecodeBench(b, 2, 3)
	if r.Stretches[1][2] != (BenchStretch{7, 8, 9}) || r.First[0] != (BenchMark{1, 2}) || r.Last[0].Before != 3 || r.Last[7].After != 4 {
		t.Errorf("%+v", r)
	}
	if _, err := EncodeBench([]BenchOp{{Kind: "nothing"}}, 1, 0, 0); err == nil || !strings.Contains(err.Error(), `"nothing"`) {
		t.Errorf("an unknown kind: %v", err)
	}
}
