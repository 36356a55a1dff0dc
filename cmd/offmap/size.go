package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"offmap/memory"
	"offmap/vmm/boot"
)

// size is a flag's value in bytes. A number without a unit is in MiB. K, M, G and T,
// also with B or iB after them, are powers of 1024.
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
		return 0, fmt.Errorf("%q is too large", s)
	}
	return size(n << shift), nil
}

// checkRAM returns an error if no guest can have that much RAM.
func checkRAM(ram size) error {
	if ram%memory.PageSize != 0 {
		return usage("--memory %s: RAM is whole pages of 4 KiB", ram.String())
	}
	if _, err := memory.NewLayout(uint64(ram)); err != nil {
		return usage("--memory %s: %w", ram.String(), err)
	}
	return nil
}

// checkGuest returns an error if no guest can have that much RAM or that many vCPUs.
func checkGuest(ram size, cpus int) error {
	if cpus < 1 || cpus > boot.MaxCPUs {
		return usage("--cpus %d: a guest has 1 to %d vCPUs", cpus, boot.MaxCPUs)
	}
	return checkRAM(ram)
}

// checkTimeout returns an error for a negative time.
func checkTimeout(d time.Duration) error {
	if d < 0 {
		return usage("--timeout %v: a time can't be negative", d)
	}
	return nil
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
