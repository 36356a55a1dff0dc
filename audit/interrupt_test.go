package audit

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"offmap/memory"
)

// TestInterrupted interrupts attacks at several points: they end soon, and the
// host's settings and the victim's files and mappings are as they were.
func TestInterrupted(t *testing.T) {
	v := startVictim(t, memory.Memfd)
	settings := func() (all []string) {
		for _, path := range []string{
			ksmDir + "/run", ksmDir + "/sleep_millisecs", ksmDir + "/pages_to_scan", ksmDir + "/smart_scan",
			"/sys/kernel/mm/transparent_hugepage/shmem_enabled", "/sys/module/zswap/parameters/enabled",
		} {
			text, _ := os.ReadFile(path)
			all = append(all, filepath.Base(path)+" "+string(text))
		}
		return all
	}
	files := func() []openFile {
		f, err := v.openFiles()
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	mappings := func() int {
		a, err := v.areas()
		if err != nil {
			t.Fatal(err)
		}
		return len(a)
	}
	for _, a := range []Avenue{procMem, ptracePeek, fdTheft, procFD, devMem, kernelRead, userRead, swap, ksm, migration, vhost} {
		for _, after := range []time.Duration{0, 3 * time.Millisecond, 30 * time.Millisecond, 90 * time.Millisecond} {
			set, open, mapped := settings(), files(), mappings()
			ctx, cancel := context.WithTimeout(t.Context(), after)
			start := time.Now()
			_, err := a.Attack(ctx, v)
			cancel()
			if took := time.Since(start); took > after+time.Minute {
				t.Errorf("%s, interrupted after %v, took %v: %v", a.Name, after, took, err)
			}
			if now := settings(); !slices.Equal(now, set) {
				t.Errorf("%s, interrupted after %v: settings %q, were %q", a.Name, after, now, set)
			}
			if now := files(); !slices.Equal(now, open) {
				t.Errorf("%s, interrupted after %v: files of the victim's %v, were %v", a.Name, after, now, open)
			}
			if now := mappings(); now != mapped {
				t.Errorf("%s, interrupted after %v: %d mappings of the victim's, were %d", a.Name, after, now, mapped)
			}
		}
	}
}
