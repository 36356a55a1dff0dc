package memory

import (
	"os"
	"strconv"
	"strings"
)

// Meminfo is a host's memory figures by their names in /proc/meminfo
// (Documentation/filesystems/proc.rst): bytes, or numbers where the file has no
// unit.
type Meminfo map[string]uint64

// ReadMeminfo reads this host's.
func ReadMeminfo() (Meminfo, error) {
	text, err := os.ReadFile("/proc/meminfo")
	return ParseMeminfo(string(text)), err
}

// Room returns how many times size, in bytes, this host's available memory is enough for.
// It is 1 if nobody knows.
func Room(size uint64) int {
	info, err := ReadMeminfo()
	if err != nil {
		return 1
	}
	return int(info["MemAvailable"] / size)
}

// ParseMeminfo reads the file's text. It skips what it doesn't understand.
func ParseMeminfo(text string) Meminfo {
	m := Meminfo{}
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if !ok || len(f) == 0 || len(f) > 2 || len(f) == 2 && f[1] != "kB" {
			continue
		}
		n, err := strconv.ParseUint(f[0], 10, 54)
		if err != nil {
			continue
		}
		m[name] = n << (10 * (len(f) - 1))
	}
	return m
}

// DirectMap is how much RAM the kernel maps for itself with pages of each
// size, in bytes. All are 0 where it doesn't say.
func (m Meminfo) DirectMap() (small, large, giant uint64) {
	return m["DirectMap4k"], m["DirectMap2M"], m["DirectMap1G"]
}
