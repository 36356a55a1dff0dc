package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"offmap/internal/measure/bench"
	"offmap/memory"
	"offmap/memory/attach"
)

// said is what the summary says of one host.
type said struct {
	Host     string
	Emulated bool
	Parts    []paragraph
	Charts   []chart
}

// paragraph sums up a document.
type paragraph struct{ Topic, Text string }

// summary sums up the documents in words: for each host what secret memory costs
// there, and then the other documents.
func (r *Report) summary() (list []*said) {
	host := func(s *Source) *said {
		i := slices.IndexFunc(list, func(h *said) bool { return h.Host == s.place })
		if i < 0 {
			i = len(list)
			list = append(list, &said{Host: s.place, Emulated: emulated(s.Host.Accel)})
		}
		return list[i]
	}
	say := func(s *Source, topic, text string) {
		if s.Name != s.place { // there are several of the kind
			topic += " " + strings.TrimPrefix(s.Name, s.place+" ")
		}
		h := host(s)
		h.Parts = append(h.Parts, paragraph{topic, text})
	}
	comparisons := compare(r.figures)
	measured := false
	for _, s := range r.sources {
		if s.Bench == nil {
			continue
		}
		measured = true
		own := slices.DeleteFunc(slices.Clone(comparisons), func(c comparison) bool { return c.from != s })
		for _, p := range s.costs(own) {
			say(s, p.Topic, p.Text)
		}
	}
	for _, o := range r.overviews() {
		h := host(o.from)
		h.Charts = append(h.Charts, o.chart)
	}
	for _, s := range r.sources {
		switch {
		case s.Trace != nil:
			say(s, "Exposure", traceSummary(s.Trace))
		case s.Run != nil:
			say(s, "Run", runSummary(s.Run))
		case s.Audit != nil:
			say(s, "Attacks", auditSummary(s.Audit))
		case s.Limits != nil:
			say(s, "Limits", limitsSummary(s.Limits))
		}
	}
	if !measured {
		list = append(list, &said{Parts: []paragraph{{"Cost", "Nothing here says what secret memory costs: none of these files is a benchmark’s (offmap bench --json)."}}})
	}
	return list
}

// most is how many figures a sentence names.
const most = 6

// costs says what a benchmark shows of secret memory: in short, and then by
// attach.
func (s *Source) costs(all []comparison) []paragraph {
	short := paragraph{Topic: "In short"}
	var list []paragraph
	subjects := groupBy(contrasts(all), func(c contrast) string { return c.subject })
	slices.SortStableFunc(subjects, func(a, b []contrast) int { return cmp.Compare(a[0].subject, b[0].subject) })
	for _, of := range subjects {
		short.Text += inShort(of) + " "
		list = append(list, paragraph{"Cost, " + of[0].subject, subjectCosts(of)})
	}
	if len(subjects) == 0 {
		short.Text = "What secret memory costs wasn’t measured here" + s.whyNot() + ". "
	} else if n := told(all); n >= 20 {
		short.Text += fmt.Sprintf("Of %d comparisons at 95 %%, up to about %d would show a difference by chance alone. ", n, (n+10)/20)
	}
	if s.Bench.Partial {
		short.Text += "The run was stopped before its end. "
	}
	if emulated(s.Host.Accel) {
		short.Text += "This host is emulated (TCG): its times can be compared with one another, and say nothing of caches, TLBs or bandwidth."
	}
	short.Text = strings.TrimSpace(short.Text)
	return append([]paragraph{short}, list...)
}

// told is the number of comparisons with enough values to tell anything.
func told(all []comparison) (n int) {
	for _, c := range all {
		if c.Against.Verdict != bench.TooFew {
			n++
		}
	}
	return n
}

// inShort counts what differs from ordinary memory, and names the costliest.
func inShort(of []contrast) string {
	n := map[string]int{}
	for _, c := range of {
		n[c.Against.Verdict]++
	}
	text := fmt.Sprintf("In %s, %d of %s cost more than in ordinary memory", of[0].subject, n[bench.Worse], count(len(of), "figure"))
	i := slices.IndexFunc(of, func(c contrast) bool { return c.Against.Verdict == bench.Worse })
	if i >= 0 {
		text += fmt.Sprintf(", at the most %s (%s)", times(of[i].cost), of[i].what())
	}
	if k := n[bench.Better]; k > 0 {
		text += fmt.Sprintf("; %d cost less", k)
	}
	if k := n[bench.NoDifference]; k > 0 {
		text += fmt.Sprintf("; for %d no difference was seen", k)
	}
	if k := n[bench.TooFew]; k > 0 {
		text += fmt.Sprintf("; for %d there are too few values to see one", k)
	}
	return text + "."
}

// subjectCosts sums up one attach of secret memory. The contrasts are sorted, the
// costliest first.
func subjectCosts(of []contrast) string {
	var worse, better []string
	var same, few []contrast
	for _, c := range of {
		switch c.Against.Verdict {
		case bench.Worse:
			worse = append(worse, c.sentence())
		case bench.Better:
			better = append(better, c.sentence())
		case bench.TooFew:
			few = append(few, c)
		default:
			same = append(same, c)
		}
	}
	slices.Reverse(better) // the greatest difference first
	var text []string
	if len(worse) > 0 {
		text = append(text, "Dearer: "+some(worse, most, "; ")+".")
	}
	if len(better) > 0 {
		text = append(text, "Cheaper: "+some(better, 3, "; ")+".")
	}
	if len(same) > 0 {
		text = append(text, "No difference seen: "+titles(same)+".")
	}
	if len(few) > 0 {
		text = append(text, "Too few values to see any: "+titles(few)+".")
	}
	return strings.Join(text, " ")
}

// titles lists the metrics of contrasts, by scenario: "exits, create (make,
// release), neighbour (8 figures)".
func titles(list []contrast) string {
	var parts []string
	for _, of := range groupBy(list, func(c contrast) string { return c.scenario }) {
		part := words(of[0].scenario)
		var metrics []string
		for _, c := range of {
			if c.title() != part {
				metrics = append(metrics, words(c.metric))
			}
		}
		switch {
		case len(metrics) > 3:
			part += fmt.Sprintf(" (%d figures)", len(metrics))
		case len(metrics) > 0:
			part += " (" + strings.Join(metrics, ", ") + ")"
		}
		parts = append(parts, part)
	}
	return some(parts, 8, ", ")
}

// some joins the first n of a list, and says how many more there are.
func some(list []string, n int, sep string) string {
	text := strings.Join(list[:min(n, len(list))], sep)
	if more := len(list) - n; more > 0 {
		text += fmt.Sprintf(", and %d more", more)
	}
	return text
}

// what is the title, with the point of a curve.
func (c contrast) what() string {
	if c.Curve == "" {
		return c.title()
	}
	return fmt.Sprintf("%s at a %s of %s", c.title(), words(c.Curve), xText(c.benchResult))
}

// sentence says what was measured, against what, and how sure that is:
// "populate (one thread) 14.9 µs/page against 2.4 in memfd (6.2×, at 95 % 5.9×
// to 6.6×; plain C 14.2)".
func (c contrast) sentence() string {
	s := scaleFor(c.Unit, c.Median)
	short := func(f *benchResult) string { // without the unit, where that is the same
		if scaleFor(f.Unit, f.Median) == s {
			return s.number(f.Median)
		}
		return quantity(f.Median, f.Unit)
	}
	text := fmt.Sprintf("%s %s", c.what(), s.format(c.Median))
	if c.ordinary != nil {
		text += fmt.Sprintf(" against %s in %s", short(c.ordinary), plainSubject(c.Against.Subject))
	} else {
		text += fmt.Sprintf(" (of %s the file has no figure)", plainSubject(c.Against.Subject))
	}
	text += " (" + times(c.Against.Ratio)
	if c.low > 0 && min(c.Confidence, c.ordinary.Confidence) >= bench.Confidence {
		low, high := c.low, c.high
		if c.More {
			low, high = 1/high, 1/low
		}
		text += fmt.Sprintf(", at 95 %% %s to %s", times(low), times(high))
	}
	if c.baseline != nil {
		text += "; plain C " + short(c.baseline)
	}
	text += ")"
	if c.points > 1 && c.same > 0 {
		text += fmt.Sprintf(", no difference seen at %d of %d points", c.same, c.points)
	}
	return text
}

// plainSubject leaves out attach direct, which ordinary memory always has.
func plainSubject(s string) string { return cut(strings.TrimSuffix(s, "+"+string(attach.Direct)), 40) }

// whyNot says why secret memory wasn't measured, if the document says so.
func (s *Source) whyNot() string {
	for _, r := range s.Bench.Results {
		if r.Backend == memory.Secret && r.Peer == "" && r.Reason != "" {
			return ": " + cut(r.Reason, 200)
		}
	}
	for _, u := range s.Bench.Unavailable {
		if u.Backend == memory.Secret && u.Attach != attach.Direct {
			return fmt.Sprintf(": %s: %s", u.Pair, cut(u.Reason, 200))
		}
	}
	return ""
}
