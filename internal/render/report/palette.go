package report

import (
	"fmt"
	"strings"

	"offmap/internal/measure/bench"
	"offmap/memory"
	"offmap/memory/attach"
)

// ink is a colour of the charts by its purpose: a class, whose colour in each
// theme the page's style sheet has.
type ink struct {
	class       string
	light, dark uint32 // 0xRRGGBB
}

// The inks. Hues are told apart by people with colour blindness too, and every
// subject has a shape or a word beside its colour. Secret memory has the two
// strong hues, ordinary memory calm ones, peers greys.
var (
	inkText   = ink{class: "text", light: 0x1c2128, dark: 0xe6e9ee}
	inkMuted  = ink{class: "muted", light: 0x57606a, dark: 0xa2abb7}
	inkGrid   = ink{class: "grid", light: 0xdfe3e8, dark: 0x333a44}
	inkPaper  = ink{class: "paper", light: 0xffffff, dark: 0x171b21}
	inkBridge = ink{class: "bridge", light: 0x0b62c4, dark: 0x62a8ff}
	inkWindow = ink{class: "window", light: 0xc2500a, dark: 0xff9d52}
	inkMemfd  = ink{class: "memfd", light: 0x0f7b6c, dark: 0x3fc7b2}
	inkAnon   = ink{class: "anon", light: 0x7a4fb5, dark: 0xbb97f0}
	inkHuge   = ink{class: "huge", light: 0x9a6a00, dark: 0xd9b04c}
	inkGmem   = ink{class: "gmem", light: 0xb0307a, dark: 0xf08cc4}
	inkOther  = ink{class: "other", light: 0x5b6673, dark: 0xa9b4c2}
	inkBad    = ink{class: "bad", light: 0xb42318, dark: 0xff8d80}
	inkGood   = ink{class: "good", light: 0x1a7f37, dark: 0x5fce7c}
	inkWarn   = ink{class: "warn", light: 0x8a6100, dark: 0xe3b341}
	// Where a guest's pages are: what the host can read is the loud one.
	inkHidden    = ink{class: "hidden", light: 0x2f6fbf, dark: 0x3f83d6}
	inkExposed   = ink{class: "exposed", light: 0xd9480f, dark: 0xff7a3d}
	inkUntouched = ink{class: "untouched", light: 0xe9edf1, dark: 0x262c34}
)

var inks = []ink{
	inkText, inkMuted, inkGrid, inkPaper, inkBridge, inkWindow, inkMemfd, inkAnon, inkHuge, inkGmem,
	inkOther, inkBad, inkGood, inkWarn, inkHidden, inkExposed, inkUntouched,
}

// palette is the inks as a style sheet: a variable each, and classes that fill
// and stroke.
func palette() string {
	var vars, classes strings.Builder
	for _, i := range inks {
		fmt.Fprintf(&vars, "--%s:light-dark(#%06x,#%06x);", i.class, i.light, i.dark)
		fmt.Fprintf(&classes, ".f-%[1]s{fill:var(--%[1]s)}.s-%[1]s{stroke:var(--%[1]s)}\n", i.class)
	}
	return ":root{" + vars.String() + "}\n" + classes.String()
}

// mark is how a subject looks in charts.
type mark struct {
	ink   ink
	shape shape
}

// markOf is the mark of a subject, the same all over the page.
func markOf(r *bench.Result) mark {
	switch {
	case r.Peer == bench.C:
		return mark{inkText, cross}
	case r.Peer == bench.Gokvm:
		return mark{inkOther, square}
	case r.Peer != "":
		return mark{inkOther, triangle}
	case r.Backend == memory.Secret && r.Attach == attach.ViaWindow:
		return mark{inkWindow, diamond}
	}
	switch r.Backend {
	case memory.Secret:
		return mark{inkBridge, disc}
	case memory.Memfd:
		return mark{inkMemfd, square}
	case memory.Anon:
		return mark{inkAnon, triangle}
	case memory.Hugetlb:
		return mark{inkHuge, flipped}
	case memory.GuestMemfd:
		return mark{inkGmem, diamond}
	}
	return mark{inkOther, disc}
}
