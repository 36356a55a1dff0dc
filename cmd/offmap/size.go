package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// size is a flag's value in bytes. A bare number is MiB; K, M, G and T, with
// or without iB or B behind them, are powers of 1024.
type size uint64

var units = map[string]uint{"": 20, "B": 0, "K": 10, "M": 20, "G": 30, "T": 40}

func parseSize(s string) (size, error) {
	digits := strings.TrimRight(s, "BbIiKkMmGgTt")
	unit := strings.ToUpper(s[len(digits):])
	if len(unit) > 1 {
		unit = strings.TrimSuffix(strings.TrimSuffix(unit, "B"), "I")
	}
	shift, ok := units[unit]
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || !ok {
		return 0, fmt.Errorf("%q is not a size: write 512, 512M or 2G", s)
	}
	if n > math.MaxUint64>>shift {
		return 0, fmt.Errorf("%q is too large a size", s)
	}
	return size(n << shift), nil
}

// Set, String and Type implement pflag.Value.
func (z *size) Set(s string) (err error) {
	*z, err = parseSize(s)
	return err
}

func (z *size) String() string {
	for _, u := range []string{"T", "G", "M", "K"} {
		if n := uint64(*z) >> units[u]; n > 0 && n<<units[u] == uint64(*z) {
			return fmt.Sprintf("%d%s", n, u)
		}
	}
	if *z == 0 {
		return "0"
	}
	return fmt.Sprintf("%dB", uint64(*z))
}

func (*size) Type() string { return "SIZE" }
