package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// prefix is a step of a unit.
type prefix struct {
	factor float64
	name   string
}

// Steps of units, the smallest first. Bytes at rest are counted in powers of
// 1024, bytes a second in powers of 1000, as hardware's are.
var (
	seconds = []prefix{{1e-9, "ns"}, {1e-6, "µs"}, {1e-3, "ms"}, {1, "s"}}
	bytes2  = []prefix{{1, "B"}, {1 << 10, "KiB"}, {1 << 20, "MiB"}, {1 << 30, "GiB"}, {1 << 40, "TiB"}}
	bytes10 = []prefix{{1, "B"}, {1e3, "kB"}, {1e6, "MB"}, {1e9, "GB"}, {1e12, "TB"}}
	plain   = []prefix{{1, ""}, {1e3, "k"}, {1e6, "M"}, {1e9, "G"}, {1e12, "T"}}
)

// scale is how values of a unit are shown.
type scale struct {
	factor float64 // what a shown 1 is, in the unit of the values
	unit   string  // of the shown values; may be empty
}

// scaleFor finds the scale in which a value of a unit of Go's benchmark format
// ("ns/page", "B/s", "sec", "faults") is a number of one to three digits.
func scaleFor(unit string, value float64) scale {
	what, per, has := strings.Cut(cut(unit, 40), "/")
	if has {
		per = "/" + per
	}
	steps, base := plain, 1.0
	switch {
	case what == "ns":
		steps, base = seconds, 1e-9
	case what == "sec", what == "s":
		steps = seconds
	case what == "B" && per == "/s":
		steps = bytes10
	case what == "B":
		steps = bytes2
	}
	step := steps[0]
	for _, s := range steps[1:] {
		if math.Abs(value)*base >= s.factor*0.9995 {
			step = s
		}
	}
	name := step.name
	if &steps[0] == &plain[0] {
		name = strings.TrimSpace(step.name + " " + what)
	}
	return scale{step.factor / base, name + per}
}

// number is the value with three digits, without the unit.
func (s scale) number(value float64) string { return digits(value / s.factor) }

// format is the value with three digits and the unit.
func (s scale) format(value float64) string {
	return strings.TrimSpace(s.number(value) + " " + s.unit)
}

// round is number for round values, of axes: without zeros at its end.
func (s scale) round(value float64) string { return round(value / s.factor) }

// quantity is a value in the scale that suits it.
func quantity(value float64, unit string) string { return scaleFor(unit, value).format(value) }

// digits writes a number with three significant digits.
func digits(v float64) string {
	abs := math.Abs(v)
	switch {
	case v == 0:
		return "0"
	case abs >= 1e6 || abs < 1e-3:
		return strconv.FormatFloat(v, 'g', 3, 64)
	case abs >= 99.95:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case abs >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case abs >= 0.9995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

// round writes a round number without zeros at its end.
func round(v float64) string {
	s := digits(v)
	if strings.Contains(s, ".") && !strings.Contains(s, "e") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// roundQuantity is quantity for round values.
func roundQuantity(value float64, unit string) string {
	s := scaleFor(unit, value)
	return strings.TrimSpace(s.round(value) + " " + s.unit)
}

// times writes a ratio: 6.2×, 14×.
func times(ratio float64) string {
	switch {
	case ratio >= 99.5 || ratio <= 0.0095:
		return digits(ratio) + "×"
	case ratio >= 9.95:
		return fmt.Sprintf("%.0f×", ratio)
	case ratio >= 1.995:
		return fmt.Sprintf("%.1f×", ratio)
	}
	return fmt.Sprintf("%.2f×", ratio)
}

// size writes a number of bytes.
func size(bytes uint64) string { return roundQuantity(float64(bytes), "B") }
