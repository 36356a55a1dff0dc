package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"offmap/internal/audit"
	"offmap/internal/bench"
	"offmap/memory"
	"offmap/memory/attach"
)

// Paragraph is part of the summary: whose it is, and what is to say.
type Paragraph struct{ Host, Text string }

// summary says in words what the documents came to, a paragraph for each
// benchmark and then the others.
func (r *Report) summary() (list []Paragraph) {
	benches := 0
	comparisons := compare(r.figures)
	for _, s := range r.sources {
		if s.Bench == nil {
			continue
		}
		benches++
		own := slices.DeleteFunc(slices.Clone(comparisons), func(c comparison) bool { return c.from != s })
		list = append(list, Paragraph{s.Name, s.costs(own)})
	}
	if benches == 0 {
		list = append(list, Paragraph{"", "What secret memory costs isn't among these results: none of them is of a benchmark (offmap bench --format json)."})
	}
	for _, s := range r.sources {
		var text string
		switch {
		case s.Audit != nil:
			text = s.Audit.summary()
		case s.Limits != nil:
			text = s.Limits.summary()
		case s.Run != nil:
			text = s.Run.summary()
		case s.Trace != nil:
			text = traceSummary(s.Trace)
		default:
			continue
		}
		list = append(list, Paragraph{s.Name, text})
	}
	return list
}

// most is how many figures a sentence names.
const most = 6

// costs says what a benchmark shows of secret memory.
func (s *Source) costs(all []comparison) string {
	var said []string
	say := func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
	subjects := groupBy(contrasts(all), func(c contrast) string { return c.subject })
	slices.SortStableFunc(subjects, func(a, b []contrast) int { return cmp.Compare(a[0].subject, b[0].subject) })
	for _, of := range subjects {
		say("%s", subjectCosts(of))
	}
	if len(subjects) == 0 {
		say("Nothing of what secret memory costs was measured here%s.", s.whyNot())
	} else if n := len(all); n >= 20 {
		say("Of %d comparisons at 95 %%, about %d would show a difference by chance alone.", n, (n+10)/20)
	}
	if s.Bench.Partial {
		say("The run was stopped before its end.")
	}
	if emulated(s.Host.Accel) {
		say("This host is emulated (TCG): its times can be compared with one another, and say nothing of caches, TLBs or bandwidth.")
	}
	return strings.Join(said, " ")
}

// subjectCosts is a sentence or two about one attach of secret memory. The
// contrasts come with the costliest first.
func subjectCosts(of []contrast) string {
	var worse, better, same []string
	for _, c := range of {
		switch c.Against.Verdict {
		case bench.Worse:
			worse = append(worse, c.sentence())
		case bench.Better:
			better = append(better, c.sentence())
		default:
			same = append(same, c.title())
		}
	}
	slices.Reverse(better) // the greatest difference first
	text := "Secret memory through the " + string(of[0].Attach) + ": "
	switch {
	case len(worse)+len(better) == 0:
		text += "no difference to ordinary memory was seen, in " + some(same, most, ", ")
	case len(worse) > 0:
		text += some(worse, most, "; ")
	default:
		text += "nothing was seen to cost more"
	}
	if len(better) > 0 {
		text += ". Better than in ordinary memory: " + some(better, 3, "; ")
	}
	if len(worse)+len(better) > 0 && len(same) > 0 {
		text += ". No difference seen: " + some(same, most, ", ")
	}
	return text + "."
}

// some joins the first n of a list, and says how many more there are. Parts
// that have a separator in them are told apart by a stronger one.
func some(list []string, n int, sep string) string {
	if slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, sep) }) {
		sep = "; "
	}
	text := strings.Join(list[:min(n, len(list))], sep)
	if more := len(list) - n; more > 0 {
		text += fmt.Sprintf(", and %d more", more)
	}
	return text
}

// sentence says what was measured, against what, and how sure that is.
func (c contrast) sentence() string {
	what := c.title()
	if c.Curve != "" {
		what += fmt.Sprintf(" (%s %s)", words(c.Curve), xText(c.figure))
	}
	text := fmt.Sprintf("%s: %s against %s in %s (%s", what, quantity(c.Median, c.Unit), c.ordinaryText(), plainSubject(c.Against.Subject), times(c.Against.Ratio))
	if c.low > 0 && min(c.Confidence, c.ordinary.Confidence) >= bench.Confidence {
		low, high := c.low, c.high
		if c.More {
			low, high = 1/high, 1/low
		}
		text += fmt.Sprintf(", 95 %% intervals allow %s to %s", times(low), times(high))
	}
	text += ")"
	if c.points > 1 && c.same > 0 {
		text += fmt.Sprintf(", and no difference seen at %d of %d points", c.same, c.points)
	}
	return text
}

func (c contrast) ordinaryText() string {
	if c.ordinary == nil {
		return "a figure that isn't in the file"
	}
	return quantity(c.ordinary.Median, c.ordinary.Unit)
}

// plainSubject leaves out the attach that goes without saying.
func plainSubject(s string) string { return cut(strings.TrimSuffix(s, "+"+string(attach.Direct)), 40) }

// whyNot says why secret memory wasn't measured, as far as the document does.
func (s *Source) whyNot() string {
	for _, r := range s.Bench.Results {
		if r.Backend == memory.Secret && r.Peer == "" && r.Reason != "" {
			return ": " + cut(r.Reason, 200)
		}
	}
	for _, u := range s.Bench.Unavailable {
		if u.Backend == memory.Secret && u.Attach != attach.Direct {
			return fmt.Sprintf(": %s+%s: %s", u.Backend, u.Attach, cut(u.Reason, 200))
		}
	}
	return ""
}

// summary says what came of the attacks on the guest that the audit was for.
func (a *Audit) summary() string {
	i := slices.IndexFunc(a.Matrix, func(c audit.Audited) bool { return c.Backend == a.Backend && c.Attach == a.Attach })
	if i < 0 {
		i = len(a.Matrix) - 1
	}
	col := a.Matrix[i]
	var exposed, owner []string
	n := map[audit.Verdict]int{}
	for _, av := range col.Avenues {
		switch {
		case av.Verdict == audit.Exposed && av.Owner:
			owner = append(owner, cut(av.Name, 40))
		case av.Verdict == audit.Exposed:
			exposed = append(exposed, cut(av.Name, 40))
		}
		n[av.Verdict]++
	}
	text := fmt.Sprintf("%s on a guest in %s+%s memory: %d blocked", count(len(col.Avenues), "attack"), cut(string(col.Backend), 40), cut(string(col.Attach), 40), n[audit.Blocked])
	if len(exposed) > 0 {
		text += fmt.Sprintf(", %d exposed it (%s)", len(exposed), some(exposed, most, ", "))
	} else {
		text += ", none exposed it to the host"
	}
	if len(owner) > 0 {
		text += fmt.Sprintf("; %d in the owner's own name did, which nothing keeps out (%s)", len(owner), some(owner, most, ", "))
	}
	if k := n[audit.Inconclusive]; k > 0 {
		text += fmt.Sprintf("; %d inconclusive", k)
	}
	if k := n[audit.Skipped]; k > 0 {
		text += fmt.Sprintf("; %d not made, since this host lacks what they take", k)
	}
	return text + "."
}

func (l *Limits) summary() string {
	var holds, not, unknown int
	var which []string
	for _, r := range l.Limits {
		switch {
		case r.Holds == nil:
			unknown++
		case *r.Holds:
			holds++
		default:
			not++
			which = append(which, cut(r.ID, 40))
		}
	}
	text := fmt.Sprintf("Of %d known limits %d hold", len(l.Limits), holds)
	if not > 0 {
		text += fmt.Sprintf(", %d don't hold on this kernel (%s)", not, some(which, most, ", "))
	}
	if unknown > 0 {
		text += fmt.Sprintf(", and %d couldn't be checked", unknown)
	}
	return text + "."
}

func (r *Run) summary() string {
	text := fmt.Sprintf("A guest with %s of RAM in %s+%s memory", size(r.Memory), cut(string(r.Backend), 40), cut(string(r.Attach), 40))
	if r.ExposedPeak == 0 {
		text += " was never exposed to the host"
	} else {
		text += fmt.Sprintf(" had at most %s of it exposed to the host", size(r.ExposedPeak))
	}
	text += fmt.Sprintf(", of %s that had memory in the end", size(r.Populated))
	if r.ToUserland != nil {
		text += fmt.Sprintf("; its userland ran after %s", quantity(*r.ToUserland*1e-3, "sec"))
	}
	return text + "."
}
