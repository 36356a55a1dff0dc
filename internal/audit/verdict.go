package audit

import (
	"fmt"

	"offmap/memory"
	"offmap/memory/attach"
	"offmap/memory/exposure"
)

// Verdict is what an attack on a guest's RAM came to.
type Verdict string

// The verdicts. Blocked is said only of an attack that read the canary out of
// the control, a guest in ordinary memory, in the same run, while the canary
// was shown to be in the guest's RAM.
const (
	Exposed      Verdict = "exposed"
	Blocked      Verdict = "blocked"
	Inconclusive Verdict = "inconclusive"
	Skipped      Verdict = "skipped"
)

// Trial is one guest that planted a canary, and the scans for it. Counts are
// pages of 4 KiB.
type Trial struct {
	Backend memory.Backend `json:"backend"`
	Attach  attach.Method  `json:"attach"`
	// Planted is in how many pages the guest put its canary, Kept in how
	// many it found it again after the scans, just before it ended.
	Planted int `json:"planted_pages"`
	Kept    int `json:"kept_pages"`
	// Alive and After are the pages found through the host's direct map
	// while the guest lived and after its VMM was gone.
	Alive exposure.Hits `json:"-"`
	After exposure.Hits `json:"-"`
	// OutsideAlive and OutsideAfter are the pages found in the host's RAM
	// from outside the host, at the same moments; nil where there is no
	// outside.
	OutsideAlive *exposure.Hits `json:"-"`
	OutsideAfter *exposure.Hits `json:"-"`
}

// judge says what the direct-map scans of a guest came to, in the light of
// the control's.
func judge(t, control Trial) (Verdict, string) {
	found := fmt.Sprintf("of %d planted pages, %d found through the direct map while the guest ran and %d after it was gone",
		t.Planted, t.Alive.Pages, t.After.Pages)
	if t.OutsideAlive != nil {
		found += fmt.Sprintf("; %d found in RAM from outside", t.OutsideAlive.Pages)
	}
	switch {
	case t.Alive.Pages > 0 || t.After.Pages > 0:
		return Exposed, found
	case control.Alive.Pages == 0:
		return Inconclusive, found + ", but the same scan didn't find the control's canary either"
	case t.Planted == 0 || t.Kept < t.Planted:
		return Inconclusive, fmt.Sprintf("%s, but only %d pages held it in the end", found, t.Kept)
	case t.OutsideAlive != nil && t.OutsideAlive.Pages == 0:
		return Inconclusive, found + ", so it wasn't shown to be in RAM"
	}
	return Blocked, found
}
