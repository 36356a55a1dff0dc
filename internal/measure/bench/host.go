package bench

import (
	"io/fs"
	"slices"
	"strings"

	"offmap/internal/measure/probe"
	"offmap/memory"
)

// ThisHost describes this host, as far as it bears on what is measured here.
func ThisHost(root fs.FS) Host {
	return Host{
		Host:     probe.ThisHost(),
		Governor: governor(root),
		THP:      chosen(root, "enabled"),
		ShmemTHP: chosen(root, "shmem_enabled"),
	}
}

// governor names the CPUs' frequency governor, or all of them where they
// differ (Documentation/admin-guide/pm/cpufreq.rst). Virtual machines have
// none.
func governor(root fs.FS) string {
	files, _ := fs.Glob(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor") // the pattern is sound
	var names []string
	for _, f := range files {
		if b, err := fs.ReadFile(root, f); err == nil {
			names = append(names, strings.TrimSpace(string(b)))
		}
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), "+")
}

// chosen reads a setting of transparent huge pages, such as "always [never]"
// (Documentation/admin-guide/mm/transhuge.rst).
func chosen(root fs.FS, setting string) string {
	b, err := fs.ReadFile(root, "sys/kernel/mm/transparent_hugepage/"+setting)
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(b), "[")
	word, _, _ := strings.Cut(rest, "]")
	return word
}

// page is the size in bytes of the pages that a subject's memory is made of, 0
// where it has none of its own or the kernel chooses.
func (h Host) page(s Subject) uint64 {
	switch s.Backend {
	case "":
		return 0
	case memory.Hugetlb:
		return 2 << 20
	case memory.Anon:
		if h.THP == "always" {
			return 0
		}
	case memory.Memfd:
		// "advise" is for memory that was advised, which ours isn't.
		if slices.Contains([]string{"always", "within_size", "force"}, h.ShmemTHP) {
			return 0
		}
	}
	return memory.PageSize
}
