package bench

import "fmt"

// Disagreement is a result that two runs differ in by more than either said
// that it might.
type Disagreement struct {
	Name    string
	Subject Subject
	A, B    *Result
}

func (d Disagreement) String() string {
	return fmt.Sprintf("%s of %s: %v to %v %s, and %v to %v", d.Name, d.Subject, d.A.Low, d.A.High, d.A.Unit, d.B.Low, d.B.High)
}

// Agree compares two runs of the same thing: how many results both have an
// interval for, and those of them whose intervals don't overlap. Runs of
// different accel have nothing in common.
//
// Of values that are independent, two intervals of a median miss each other
// once in some thousands of times: much less often than one of them misses the
// median. So results that disagree mean that the machine was another the second
// time, by more than it varies within a run, or that the intervals are wrong.
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
