package bench

import (
	"io/fs"
	"slices"
	"strings"

	"offmap/internal/measure/probe"
	"offmap/memory"
)

// ThisHost describes this host. root is the root of its file system.
func ThisHost(root fs.FS) Host {
	return Host{
		Host:     probe.ThisHost(),
		Governor: governor(root),
		THP:      chosen(root, "enabled"),
		ShmemTHP: chosen(root, "shmem_enabled"),
	}
}

// governor returns the CPUs' frequency governor
// (Documentation/admin-guide/pm/cpufreq.rst), several joined by "+" if CPUs differ.
// Virtual machines have none.
func governor(root fs.FS) string {
	files, _ := fs.Glob(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor") // the pattern is valid
	var names []string
	for _, f := range files {
		if b, err := fs.ReadFile(root, f); err == nil {
			names = append(names, strings.TrimSpace(string(b)))
		}
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), "+")
}

// chosen returns the current value of a setting of transparent huge pages: "never"
// for "always [never]" (Documentation/admin-guide/mm/transhuge.rst).
func chosen(root fs.FS, setting string) string {
	b, err := fs.ReadFile(root, "sys/kernel/mm/transparent_hugepage/"+setting)
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(b), "[")
	word, _, _ := strings.Cut(rest, "]")
	return word
}

// page returns the size in bytes of the pages of a subject's memory, or 0 if it has
// no backend or the kernel chooses the size.
func (h Host) page(s Subject) uint64 {
	switch s.Backend {
	case "":
		return 0
	case memory.Hugetlb:
		return 2 << 20
	case memory.Removed:
		return 0 // 2 MiB, and 4 KiB before Linux 6.12
	case memory.Anon:
		if h.THP == "always" {
			return 0
		}
	case memory.Memfd:
		// "advise" is for memory with MADV_HUGEPAGE, which offmap doesn't use.
		if slices.Contains([]string{"always", "within_size", "force"}, h.ShmemTHP) {
			return 0
		}
	}
	return memory.PageSize
}
