package bench

import "fmt"

// Disagreement is a result of two runs whose intervals don't overlap.
type Disagreement struct {
	Name    string
	Subject Subject
	A, B    *Result
}

func (d Disagreement) String() string {
	return fmt.Sprintf("%s of %s: %v to %v %s, and %v to %v", d.Name, d.Subject, d.A.Low, d.A.High, d.A.Unit, d.B.Low, d.B.High)
}

// Agree compares two runs of the same plan. It returns the number of results for
// which both have an interval, and those of them whose intervals don't overlap.
// Results of different accel aren't compared.
//
// With independent values, the two intervals of a median fail to overlap once in
// thousands of times, much less often than one of them misses the median. So a
// disagreement means that the machine changed between the runs by more than it
// varies within one, or that the intervals are wrong.
func Agree(a, b *Document) (compared int, list []Disagreement) {
	type key struct {
		name, accel string
		Subject
	}
	in := map[key]*Result{}
	for i := range a.Results {
		if r := &a.Results[i]; r.measured() && r.Confidence >= Confidence {
			in[key{r.Name, r.Accel, r.Subject}] = r
		}
	}
	for i := range b.Results {
		r := &b.Results[i]
		other := in[key{r.Name, r.Accel, r.Subject}]
		if other == nil || !r.measured() || r.Confidence < Confidence {
			continue
		}
		compared++
		if other.High < r.Low || r.High < other.Low {
			list = append(list, Disagreement{r.Name, r.Subject, other, r})
		}
	}
	return compared, list
}
