package report

import "math"

// axis is the range of values on an axis, and how they are written there.
type axis struct {
	low, high float64
	log       bool
	format    func(float64) string
	binary    bool      // marks at powers of two, of a logarithmic axis
	fixed     []float64 // the marks; nil: marks finds round ones
}

// logFrom is the ratio of the largest to the smallest value from which on an axis
// is logarithmic: on a linear one the smallest couldn't be seen.
const logFrom = 25

// span makes an axis for values. A linear one begins at 0, so that lengths can
// be compared.
func span(low, high float64, format func(float64) string) axis {
	a := axis{low: low, high: high, format: format}
	switch {
	case low > 0 && high/low > logFrom:
		a.log = true
		a.low, a.high = low/1.25, high*1.25
	case low >= 0:
		a.low, a.high = 0, high*1.05
	default:
		pad := (high - low) * 0.05
		a.low, a.high = low-pad, high+pad
	}
	if a.high == a.low {
		a.high++
	}
	return a
}

// place is where a value is between two coordinates, those of the axis's ends.
func (a axis) place(v, from, to float64) float64 {
	share := (v - a.low) / (a.high - a.low)
	if a.log {
		share = math.Log(v/a.low) / math.Log(a.high/a.low)
	}
	return from + share*(to-from)
}

// marks are the round values on the axis, three to eight of them.
func (a axis) marks() (list []float64) {
	if a.fixed != nil {
		return a.fixed
	}
	if !a.log {
		step := roundStep((a.high - a.low) / 4)
		for i := math.Ceil(a.low / step); i*step <= a.high*(1+1e-9) && len(list) < 12; i++ {
			list = append(list, i*step)
		}
		return list
	}
	base, factors := 10.0, []float64{1, 2, 5}
	if a.binary {
		base, factors = 2, []float64{1}
	}
	from := math.Floor(math.Log(a.low) / math.Log(base))
	to := math.Ceil(math.Log(a.high) / math.Log(base))
	for {
		list = nil
		stride := max(1, math.Ceil((to-from)*float64(len(factors))/8))
		if len(factors) > 1 && stride > 1 {
			factors = factors[:1] // whole powers only
			continue
		}
		for e := from; e <= to; e += stride {
			for _, f := range factors {
				if v := f * math.Pow(base, e); v >= a.low*(1-1e-9) && v <= a.high*(1+1e-9) {
					list = append(list, v)
				}
			}
		}
		return list
	}
}

// roundStep is the next larger of 1, 2 and 5 times a power of ten.
func roundStep(v float64) float64 {
	if !(v > 0) {
		return 1
	}
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{1, 2, 5} {
		if f*p >= v {
			return f * p
		}
	}
	return 10 * p
}
