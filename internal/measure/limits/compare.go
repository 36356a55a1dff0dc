package limits

// Point is a feature from the discussion that led to memfd_secret: what two
// proposals of 2019 planned, what there is today, and the limits that show it.
type Point struct {
	Point     string
	Exclusive string // MAP_EXCLUSIVE, Mike Rapoport
	Advice    string // MADV_SECRET, Elena Reshetova and Tycho Andersen
	Today     string // memfd_secret
	IDs       []string
}

// Proposals are the two, with links.
func Proposals() [2]struct{ Name, Source, Link string } {
	return [2]struct{ Name, Source, Link string }{
		{"MAP_EXCLUSIVE", sourceExclusive, linkExclusive},
		{"MADV_SECRET", sourceReshetova, linkReshetova},
	}
}

// Compare is the comparison, point by point.
func Compare() []Point {
	return []Point{
		{"How it is asked for", "a flag of mmap, for private anonymous memory", "an advice, for any memory from mmap", "a file of its own, mapped shared", []string{"not-turned", "no-opt-in"}},
		{"Allocated by itself, on pages of its own", "yes, by mmap", "yes, in contrast to mlock of a buffer", "yes, whole pages of a file", []string{"own-pages"}},
		{"Out of the direct map", "yes", "yes, with XPFO's code for the marked pages only", "yes, page by page", []string{"direct-map"}},
		{"Kept from get_user_pages", "no: populating went through it", "not said", "yes, and so from KVM", []string{"gup-refused", "kvm-refused"}},
		{"Uncached, against speculation", "no", "yes, where it began", "no: Lutomirski's answer was to ask for that by itself", []string{"uncached"}},
		{"Wiped when freed", "no", "wanted, also after a crash; Andersen thought of do_exit", "yes, by the page's last reference", []string{"wiped-when-freed"}},
		{"Populated and locked at once", "yes (MAP_POPULATE, MAP_LOCKED)", "not said", "at the first touch; unevictable by nature", []string{"no-populating", "unevictable", "memlock", "memlock-touch"}},
		{"Seen by a forked child", "no", "not said", "yes, unless MADV_DONTFORK", []string{"fork"}},
		{"Shared with another process", "no", "no", "by its descriptor", []string{"shared-by-fd", "sealing"}},
		{"Huge pages, and a direct map that stays whole", "not said", "a concern (fragmentation)", "4 KiB only; the pool of 2 MiB pages was not merged", []string{"small-pages", "pool", "direct-map-fragmentation"}},
		{"Out of the VMM's own page tables", "no", "no", "planned, by the descriptor; not yet", []string{"vmm-address-space"}},
	}
}
