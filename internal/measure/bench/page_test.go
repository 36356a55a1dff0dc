package bench

import (
	"testing"
	"testing/fstest"

	"offmap/memory"
	"offmap/memory/attach"
)

func TestThisHost(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	const thp, cpus = "sys/kernel/mm/transparent_hugepage/", "sys/devices/system/cpu/"
	for _, c := range []struct {
		fs                   fstest.MapFS
		governor, thp, shmem string
	}{
		{fstest.MapFS{}, "", "", ""},
		{fstest.MapFS{
			cpus + "cpu0/cpufreq/scaling_governor": file("performance\n"),
			cpus + "cpu1/cpufreq/scaling_governor": file("performance\n"),
			cpus + "cpufreq/nothing":               file("x"),
			thp + "enabled":                        file("always [madvise] never\n"),
			thp + "shmem_enabled":                  file("always within_size advise [never] deny force\n"),
		}, "performance", "madvise", "never"},
		{fstest.MapFS{
			cpus + "cpu0/cpufreq/scaling_governor":  file("schedutil\n"),
			cpus + "cpu10/cpufreq/scaling_governor": file("performance\n"),
			thp + "enabled":                         file("nonsense"),
		}, "performance+schedutil", "", ""},
	} {
		h := ThisHost(c.fs)
		if h.Governor != c.governor || h.THP != c.thp || h.ShmemTHP != c.shmem || h.Kernel == "" {
			t.Errorf("%+v; want %q, %q, %q", h, c.governor, c.thp, c.shmem)
		}
	}
}

func TestPage(t *testing.T) {
	subject := func(b memory.Backend) Subject { return Subject{Pair: attach.Pair{Backend: b}} }
	for _, c := range []struct {
		thp, shmem string
		s          Subject
		want       uint64
	}{
		{"never", "never", subject(memory.Anon), 4096},
		{"madvise", "never", subject(memory.Anon), 4096},
		{"always", "never", subject(memory.Anon), 0},
		{"always", "never", subject(memory.Memfd), 4096},
		{"never", "force", subject(memory.Memfd), 0},
		{"always", "always", subject(memory.Secret), 4096},
		{"", "", subject(memory.Hugetlb), 2 << 20},
		{"", "", subject(""), 0},
	} {
		if got := (Host{THP: c.thp, ShmemTHP: c.shmem}).page(c.s); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}
