package bench

import (
	"fmt"
	"math"
	"math/rand/v2"
	"offmap/memory/attach"
	"slices"
	"testing"
)

// measuredAs returns a result with values.
func measuredAs(s Subject, values ...float64) Result {
	r := Result{Name: "s/m", Subject: s, Unit: "ns/op", Accel: "kvm", Status: Measured, Values: values}
	r.summarise()
	return r
}

// around returns n values around a middle, 1 % apart, in no order.
func around(middle float64, n int) (values []float64) {
	for i := range n {
		values = append(values, middle*(1+0.01*float64((i*7)%n-n/2)))
	}
	return values
}

func TestSummarise(t *testing.T) {
	for _, c := range []struct {
		values                        []float64
		median, low, high, confidence float64
	}{
		{[]float64{5}, 5, 5, 5, 0},
		{[]float64{3, 1}, 2, 1, 3, 0.5},
		{[]float64{5, 1, 2, 4, 3}, 3, 1, 5, 0.9375},
		{[]float64{6, 5, 4, 3, 2, 1}, 3.5, 1, 6, 0.96875},
		// The median is between the second and the ninth of ten values with
		// probability 1 - 2·11/1024.
		{[]float64{10, 1, 9, 2, 8, 3, 7, 4, 6, 5}, 5.5, 2, 9, 1 - 22.0/1024},
		{[]float64{0, 0, 0, 0, 0, 0}, 0, 0, 0, 0.96875},
		{[]float64{-2, -1, -3}, -2, -3, -1, 0.75},
	} {
		before := slices.Clone(c.values)
		r := Result{Values: c.values}
		r.summarise()
		if r.Median != c.median || r.Low != c.low || r.High != c.high || math.Abs(r.Confidence-c.confidence) > 1e-12 {
			t.Errorf("%v: %v, %v to %v with %v; want %v, %v to %v with %v", c.values, r.Median, r.Low, r.High, r.Confidence, c.median, c.low, c.high, c.confidence)
		}
		if !slices.Equal(before, r.Values) {
			t.Errorf("%v were put into another order: %v", before, r.Values)
		}
	}
}

// TestIntervalHolds draws from a distribution like a benchmark's, skewed to the right,
// with a known median, and counts how often the interval contains it.
func TestIntervalHolds(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{6, 10, 25, 60} {
		const runs = 4000
		holds := 0
		for range runs {
			r := skewed(rng, n, 100)
			if r.Low <= 100 && 100 <= r.High {
				holds++
			}
		}
		// Within five standard errors, or more often.
		if least := Confidence - 5*math.Sqrt(Confidence*(1-Confidence)/runs); float64(holds)/runs < least {
			t.Errorf("n = %d: the interval holds the median %d times of %d", n, holds, runs)
		}
	}
}

// skewed returns a result with n values of a log-normal distribution.
func skewed(rng *rand.Rand, n int, median float64) Result {
	var values []float64
	for range n {
		values = append(values, median*math.Exp(0.1*rng.NormFloat64()))
	}
	return measuredAs(memfd, values...)
}

func TestCompare(t *testing.T) {
	base := measuredAs(memfd, around(100, 10)...)
	for _, c := range []struct {
		name    string
		r       Result
		more    bool
		verdict string
		ratio   float64
	}{
		{"slower", measuredAs(secret, around(200, 10)...), false, Worse, 2},
		{"more of what is good", measuredAs(secret, around(200, 10)...), true, Better, 2},
		{"faster", measuredAs(secret, around(50, 10)...), false, Better, 0.5},
		{"less of what is good", measuredAs(secret, around(50, 10)...), true, Worse, 0.5},
		{"the same", measuredAs(secret, around(100, 10)...), false, NoDifference, 1},
		// p < 0.05, but by less than an interval is wide.
		{"hardly slower", measuredAs(secret, around(106, 10)...), false, NoDifference, 1.06},
		{"wide", measuredAs(secret, 101, 102, 103, 104, 150, 200, 300, 400, 500, 600), false, NoDifference, 0},
		{"too few values", measuredAs(secret, around(200, 5)...), false, TooFew, 2},
	} {
		c.r.More = c.more
		got := Compare(&c.r, &base)
		if got.Verdict != c.verdict || got.Subject != "memfd+direct" || c.ratio != 0 && math.Abs(got.Ratio-c.ratio) > 0.02 {
			t.Errorf("%s: %+v; want %s, %v", c.name, got, c.verdict, c.ratio)
		}
	}
	if p := Compare(ptr(measuredAs(secret, around(106, 10)...)), &base).P; p >= 0.05 {
		t.Errorf("p = %v: that wasn't the width's doing", p)
	}
	// No value that JSON can't represent.
	zero := measuredAs(memfd, 0, 0, 0, 0, 0, 0)
	for _, r := range []Result{zero, base} {
		if got := Compare(&r, &zero); got.Ratio != 0 || math.IsNaN(got.P) {
			t.Errorf("against 0: %+v", got)
		}
	}
}

func ptr[T any](v T) *T { return &v }

// TestFalseDifferences counts how often a difference is seen between two samples of
// the same distribution. By p alone it would be once in twenty times.
func TestFalseDifferences(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	const runs = 2000
	for _, n := range []int{MinRounds, 10} {
		byP, seen := 0, 0
		for range runs {
			a, b := skewed(rng, n, 100), skewed(rng, n, 100)
			c := Compare(&a, &b)
			if c.P < 0.05 {
				byP++
			}
			if c.Verdict != NoDifference {
				seen++
			}
		}
		t.Logf("n = %d: %.2f %% by p, %.2f %% seen", n, 100*float64(byP)/runs, 100*float64(seen)/runs)
		if byP == 0 || float64(seen)/runs > 0.01 {
			t.Errorf("n = %d: of %d, p < 0.05 %d times and a difference was seen %d times", n, runs, byP, seen)
		}
	}
}

// TestAgainst checks which results are compared.
func TestAgainst(t *testing.T) {
	cMemfd := Subject{Pair: attach.Pair{Backend: memfd.Backend}, Peer: C}
	cAnon := Subject{Pair: attach.Pair{Backend: anon.Backend}, Peer: C}
	q35 := Subject{Peer: Q35}
	result := func(s Subject) Result { return measuredAs(s, around(100, 10)...) }
	refused := func(s Subject) Result {
		r := result(s)
		r.Status, r.Values = Refused, nil
		return r
	}
	other := func(r Result) Result { r.Accel = "tcg"; return r }
	for _, c := range []struct {
		name              string
		results           []Result
		against, baseline string // of the last one
	}{
		{"memfd and its baseline", []Result{result(anon), result(memfd), result(cAnon), result(cMemfd), result(secret)}, "memfd+direct", ""},
		{"a baseline without memory", []Result{result(memfd), result(plainC), result(secret)}, "memfd+direct", "c"},
		{"its own baseline rather", []Result{result(plainC), result(cMemfd), result(memfd)}, "", "c memfd"},
		{"anon", []Result{result(anon), refused(memfd), refused(plainC), result(secret)}, "anon+direct", ""},
		{"nothing", []Result{refused(memfd), result(secret)}, "", ""},
		{"itself", []Result{result(memfd)}, "", ""},
		{"a peer", []Result{result(memfd), result(q35)}, "memfd+direct", ""},
		{"a baseline isn't compared", []Result{result(memfd), result(plainC)}, "", ""},
		{"another accel", []Result{other(result(memfd)), other(result(plainC)), result(secret)}, "", ""},
	} {
		compareAll(c.results)
		r := c.results[len(c.results)-1]
		got := [2]string{}
		for i, cmp := range []*Comparison{r.Against, r.AgainstBaseline} {
			if cmp != nil {
				got[i] = cmp.Subject
			}
		}
		if got != [2]string{c.against, c.baseline} {
			t.Errorf("%s: against %q and baseline %q, want %q and %q", c.name, got[0], got[1], c.against, c.baseline)
		}
	}
}

// run returns a document of n results drawn from the same distributions.
func drawn(rng *rand.Rand, n int, shift float64, narrow float64) *Document {
	d := &Document{}
	for i := range n {
		r := skewed(rng, 10, 100*shift)
		r.Name = fmt.Sprint("s/", i)
		r.Low, r.High = r.Median-narrow*(r.Median-r.Low), r.Median+narrow*(r.High-r.Median)
		d.Results = append(d.Results, r)
	}
	return d
}

// TestAgree checks how often results of the same machine disagree, with correct
// intervals and with intervals that are too narrow.
func TestAgree(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	const n = 2000
	for _, c := range []struct {
		name          string
		shift, narrow float64
		least, most   float64 // share that disagrees
	}{
		{"honest", 1, 1, 0, 0.005},
		{"a tenth as wide", 1, 0.1, 0.5, 1},
		{"no width at all", 1, 0, 1, 1},
		{"another machine", 1.5, 1, 0.99, 1},
	} {
		compared, list := Agree(drawn(rng, n, 1, c.narrow), drawn(rng, n, c.shift, c.narrow))
		share := float64(len(list)) / n
		t.Logf("%s: %.2f %% disagree", c.name, 100*share)
		if compared != n || share < c.least || share > c.most {
			t.Errorf("%s: %d of %d disagree, want %v to %v", c.name, len(list), compared, c.least, c.most)
		}
	}
	// Only results that both have, with an interval, on the same accel.
	a, b := drawn(rng, 5, 1, 1), drawn(rng, 4, 9, 1)
	a.Results[0].Status, a.Results[1].Accel, b.Results[2].Confidence = Refused, "tcg", 0.9
	compared, list := Agree(a, b)
	if compared != 1 || len(list) != 1 || list[0].Name != "s/3" || list[0].A != &a.Results[3] || list[0].B != &b.Results[3] {
		t.Errorf("%d compared, %v", compared, list)
	}
}
