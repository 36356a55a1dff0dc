package e2e

import (
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"offmap/internal/lab/debian"
)

// memtest86 is memtest86+ 6.10, in the directory that the lab sees.
const memtest86 = "memtest86+x64.bin"

// fetchMemtest puts it there.
func fetchMemtest(t *testing.T, dir string) {
	t.Helper()
	root, err := debian.GetPackage(t.Context(), "6.1", "memtest86+", nil)
	if err != nil {
		t.Fatal(err)
	}
	copyFile(t, filepath.Join(root, "boot", memtest86), filepath.Join(dir, memtest86))
}

// What memtest86+ draws every other second: which of its tests it makes, how many
// times it has made all of them, and how many errors it has found.
var memtestStatus = regexp.MustCompile(`(?s) #(\d+)  \[.*?Pass: +(\d+) +Errors: +(\d+) `)

// TestMemtest has memtest86+ test the RAM of secret guests: with the first of its
// tests, of which each takes longer than the one before, and with -soak with all
// that it has. It takes 28 MiB at a time, which the window holds: the frames
// change hands between.
func TestMemtest(t *testing.T) {
	needInside(t)
	onlyOn(t, "6.1")
	for _, c := range []struct {
		attach string
		until  int // the test that isn't waited for, nor are later ones
		flags  []string
	}{
		{"bridge", 4, nil},
		{"window", 2, []string{"--window", "30M"}},
	} {
		t.Run(c.attach, func(t *testing.T) {
			args := append([]string{"--backend", "secret", "--attach", c.attach}, c.flags...)
			g := startRun(t, append(args, "-k", memtest86, "-m", "32", "--cmdline", "console=ttyS0,115200 nopause nobench nosm nosmp")...)
			for start := time.Now(); ; time.Sleep(200 * time.Millisecond) {
				screen := g.out.String()
				for _, s := range memtestStatus.FindAllStringSubmatch(screen, -1) {
					if s[3] != "0" {
						t.Fatalf("%s errors\n%q", s[3], screen)
					}
					if at, _ := strconv.Atoi(s[1]); s[2] != "0" || at >= c.until && *soak == 0 {
						t.Logf("%s passes, then test %s, in %v", s[2], s[1], time.Since(start).Round(time.Second))
						return
					}
				}
				if !g.alive() || *soak == 0 && time.Since(start) > 2*patience {
					t.Fatalf("no end after %v\n%q", time.Since(start), screen)
				}
			}
		})
	}
}
