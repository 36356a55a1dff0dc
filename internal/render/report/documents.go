package report

import (
	"fmt"

	"offmap/audit"
	"offmap/internal/measure/guestrun"
	"offmap/internal/measure/limits"
)

// auditSummary says what came of the attacks on the guest that the audit was for.
func auditSummary(a *audit.Document) string {
	col := a.Column(a.Pair)
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
	text := fmt.Sprintf("%s on a guest in %s memory: %d blocked", count(len(col.Avenues), "attack"), cut(col.Pair.String(), 80), n[audit.Blocked])
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

func limitsSummary(l *limits.Document) string {
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

func runSummary(r *guestrun.Document) string {
	text := fmt.Sprintf("A guest with %s of RAM in %s memory", size(r.Memory), cut(r.Pair().String(), 80))
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
