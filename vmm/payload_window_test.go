package vmm

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"testing"
	"time"

	"offmap/guest/payload"
	"offmap/guest/protocol"
	"offmap/memory"
	"offmap/vmm/boot"
)

// These payloads are there for guest RAM of which only a part is resident.
// Here they are held against RAM that is all there: what they claim to do to
// it, and that they see what a pager could do wrong.

var timeLimit = flag.Duration("limit", 5*time.Minute, "how long a payload may take: none takes more than 15 s where nothing else runs")

// argsConfig is payloadConfig with arguments for the payload.
func argsConfig(t testing.TB, name string, cpus int, size uint64, args ...uint64) Config {
	t.Helper()
	p, err := payload.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	cfg := payloadConfig(t, name, cpus, size)
	cfg.Guest = boot.PayloadLoader(p.Image(), boot.PayloadConfig{Ring: p.Ring, Args: args})
	return cfg
}

// runPayload runs a machine to its end, with do beside it, which is done when
// its context is. What is left in RAM is returned as 64-bit words.
func runPayload(t testing.TB, cfg Config, do func(context.Context, memory.Guest) error) (r Result, console string, ram []uint64) {
	t.Helper()
	var out bytes.Buffer
	cfg.Console = &out
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}()
	// What a pager loses can be what the vCPUs meet by.
	ctx, cancel := context.WithTimeoutCause(t.Context(), *timeLimit, errTooLong)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- do(ctx, m.attach.Guest()) }()
	r, err = m.Run(ctx)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err != nil || r.Outcome.Reason != PowerOff {
		t.Fatalf("%+v, %v\n%s", r, err, out.String())
	}
	b := make([]byte, cfg.Memory)
	if _, err := m.attach.Guest().ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	ram = make([]uint64, len(b)/8)
	for i := range ram {
		ram[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return r, out.String(), ram
}

func alone(context.Context, memory.Guest) error { return nil }

// occupied is more than a payload takes for itself, in bytes.
const occupied = 1 << 20

// allFree says whether so many pages are all that is free in RAM of a size.
func allFree(pages, size uint64) bool {
	b := pages * memory.PageSize
	return b < size && b > size-occupied
}

// free finds a payload's RAM by its info block, which is in page 1: the words
// from its first page on.
func free(ram []uint64) []uint64 {
	info := protocol.Info{Free: make([]protocol.Range, 1)}.Encode()
	start := ram[(memory.PageSize+len(info)-16)/8]
	return ram[start/8:]
}

const pageWords = memory.PageSize / 8

func TestPayloadShuffle(t *testing.T) {
	needKVM(t)
	for _, c := range []struct {
		cpus         int
		size, passes uint64
		want         uint64 // passes made
	}{
		{1, 32 << 20, 0, 3},
		{2, 96 << 20, 4, 4},
		{9, 32 << 20, 1, 1},
	} {
		t.Run(fmt.Sprintf("%d vCPUs", c.cpus), func(t *testing.T) {
			r, out, ram := runPayload(t, argsConfig(t, "shuffle", c.cpus, c.size, c.passes), alone)
			var pages, passes uint64
			_, err := fmt.Sscanf(out, "shuffle: %d pages, %d passes ok\n", &pages, &passes)
			if err != nil || r.Outcome.Code != 0 || passes != c.want || !allFree(pages, c.size) {
				t.Fatalf("exit code %d, %q: want %d passes over %d bytes (%v)", r.Outcome.Code, out, c.want, c.size, err)
			}
			ram = free(ram)
			for p := range pages {
				if got := ram[p*pageWords+2048/8]; got != passes*uint64(c.cpus) {
					t.Fatalf("page %d was visited %d times", p, got)
				}
			}
		})
	}
}

// holed is guest RAM of which less is told of.
type holed struct {
	memory.Guest
	layout memory.Layout
}

func (h holed) Layout() memory.Layout { return h.layout }

// TestPayloadHoles has RAM in several ranges, in cheaper places than around
// the PCI hole.
func TestPayloadHoles(t *testing.T) {
	needKVM(t)
	layout, err := memory.LayoutOf(
		memory.Region{Start: 0, Size: 3 << 20},
		memory.Region{Start: 4 << 20, Size: memory.PageSize},
		memory.Region{Start: 9 << 20, Size: 7 << 20},
	)
	if err != nil {
		t.Fatal(err)
	}
	inRAM := func(at uint64) bool { return layout.Contains(memory.GPA(at), memory.PageSize) }
	cfg := argsConfig(t, "shuffle", 2, 32<<20)
	load := cfg.Guest
	cfg.Guest = func(ram memory.Guest, cpus, tscKHz int) ([]boot.CPU, error) {
		return load(holed{ram, layout}, cpus, tscKHz)
	}
	r, out, ram := runPayload(t, cfg, alone)
	var pages uint64
	_, err = fmt.Sscanf(out, "shuffle: %d pages, 3 passes ok\n", &pages)
	if err != nil || r.Outcome.Code != 0 || !allFree(pages, layout.Size()) {
		t.Fatalf("exit code %d, %q: %v", r.Outcome.Code, out, err)
	}
	var visited uint64
	for p := range uint64(len(ram)) / pageWords {
		switch at := p * memory.PageSize; {
		case ram[p*pageWords+2048/8] != 3*2:
		case inRAM(at):
			visited++
		default:
			t.Errorf("the page at 0x%x, which is none of its RAM, was visited", at)
		}
	}
	if visited != pages {
		t.Errorf("%d pages were visited of %d", visited, pages)
	}
}

// revert does what a pager that loses a write does: when the word at watch in
// a page has changed, it puts n bytes from offset on back to what they were.
func revert(page memory.GPA, offset, n, watch int) func(context.Context, memory.Guest) error {
	return func(ctx context.Context, ram memory.Guest) error {
		before, now := make([]byte, memory.PageSize), make([]byte, memory.PageSize)
		for bytes.Equal(before[watch:watch+8], now[watch:watch+8]) {
			if ctx.Err() != nil {
				return fmt.Errorf("the guest never wrote the word at %d of the page at 0x%x", watch, page)
			}
			runtime.Gosched()
			if _, err := ram.ReadAt(now, page); err != nil {
				return err
			}
		}
		_, err := ram.WriteAt(before[offset:offset+n], page+memory.GPA(offset))
		return err
	}
}

// TestPayloadSees loses updates under the payloads that check, which must end
// with an error that names the place.
func TestPayloadSees(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: takes long where all is emulated")
	}
	needKVM(t)
	const victim = 5<<20 + 3*memory.PageSize
	// So many passes and accesses that the first is seen long before the last.
	shuffle := []uint64{400}
	zipf := []uint64{0, 4 << 20}
	report := regexp.MustCompile(`^(\w+): (.+) at 0x([0-9a-f]+), vCPU \d+: expected 0x[0-9a-f]+, found 0x[0-9a-f]+\n$`)
	for _, c := range []struct {
		name             string
		payload          string
		args             []uint64
		cpus             int
		offset, n, watch int
		says             string // pattern
	}{
		{"page", "shuffle", shuffle, 1, 0, memory.PageSize, 4088, "word|record|counter"},
		{"page, two vCPUs", "shuffle", shuffle, 2, 0, memory.PageSize, 4088, "word|word behind a later one|record|counter"},
		{"first word", "shuffle", shuffle, 1, 0, 8, 0, "word"},
		{"first word, two vCPUs", "shuffle", shuffle, 2, 0, 8, 0, "word|word behind a later one"},
		{"last word", "shuffle", shuffle, 2, 4088, 8, 4088, "word"},
		{"other vCPU's words", "shuffle", shuffle, 2, 8, 8, 4080, "word|word behind a later one"},
		{"counter", "shuffle", shuffle, 2, 2048, 8, 2048, "counter"},
		{"record", "shuffle", shuffle, 2, 2032, 16, 2040, "record|record's number"},
		{"record's number", "shuffle", shuffle, 2, 2032, 8, 2040, "record"},
		{"record's check", "shuffle", shuffle, 2, 2040, 8, 2040, "record"},
		{"access", "zipf", zipf, 2, 0, 16, 8, "sum of accesses|check"},
		{"access's check", "zipf", zipf, 2, 8, 8, 8, "check"},
	} {
		t.Run(c.payload+"/"+c.name, func(t *testing.T) {
			cfg := argsConfig(t, c.payload, c.cpus, 32<<20, c.args...)
			r, out, _ := runPayload(t, cfg, revert(victim, c.offset, c.n, c.watch))
			if r.Outcome.Code != 1 {
				t.Fatalf("a lost update went unnoticed: exit code %d, %q", r.Outcome.Code, out)
			}
			m := report.FindStringSubmatch(out)
			if m == nil || m[1] != c.payload || !regexp.MustCompile("^("+c.says+")$").MatchString(m[2]) {
				t.Fatalf("%q doesn't match %q", out, c.says)
			}
			var at uint64
			if _, err := fmt.Sscanf(m[3], "%x", &at); err != nil {
				t.Fatal(err)
			}
			if m[2] != "sum of accesses" && at/memory.PageSize != victim/memory.PageSize {
				t.Errorf("%q doesn't name the page at 0x%x", out, victim)
			}
		})
	}
}

func TestPayloadChurn(t *testing.T) {
	needKVM(t)
	const size = 32 << 20
	const random, read = 1, 2
	const lines = memory.PageSize / 64
	for _, c := range []struct {
		name                     string
		cpus                     int
		set, rounds, mode, words uint64
		wantRounds, wantPages    uint64 // 0 pages: all that is free
		wantWords                uint64 // that are written
	}{
		{"defaults", 1, 0, 0, 0, 0, 4, 0, lines},
		{"defaults, two vCPUs", 2, 0, 0, 0, 0, 4, 0, lines},
		{"random", 1, 8 << 20, 3, random, 0, 3, 2048, lines},
		{"random, two vCPUs", 2, 8<<20 - 4095, 3, random, 1, 3, 2048, 1},
		{"one word", 2, 5 << 20, 1, 0, 1, 1, 1280, 1},
		{"more than there is", 1, 1 << 60, 2, random, 1 << 50, 2, 0, lines},
		{"one page", 3, 1, 5, random, 3, 5, 1, 3},
		{"read", 2, 8 << 20, 2, random | read, 2, 2, 2048, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := argsConfig(t, "churn", c.cpus, size, c.set, c.rounds, c.mode, c.words)
			r, out, ram := runPayload(t, cfg, alone)
			var rounds, pages, cycles uint64
			if _, err := fmt.Sscanf(out, payload.ChurnReport, &rounds, &pages, &cycles); err != nil || r.Outcome.Code != 0 {
				t.Fatalf("exit code %d, %q: %v", r.Outcome.Code, out, err)
			}
			if rounds != c.wantRounds || cycles == 0 || r.ToUserland == 0 {
				t.Errorf("%q, userland after %v: want %d rounds", out, r.ToUserland, c.wantRounds)
			}
			if pages != c.wantPages && (c.wantPages != 0 || !allFree(pages, size)) {
				t.Errorf("%q: want %d pages", out, c.wantPages)
			}
			// Reads get pages of their own too: it is a shared mapping.
			if b := pages * memory.PageSize; r.Populated < b || r.Populated > b+occupied {
				t.Errorf("%d pages populated %d bytes", pages, r.Populated)
			}
			ram = free(ram)
			for p := range pages {
				for line := range uint64(lines) {
					var want uint64
					if line < c.wantWords {
						want = 2 + rounds
					}
					if got := ram[p*pageWords+line*8]; got != want {
						t.Fatalf("page %d, line %d: written %d times, want %d", p, line, got, want)
					}
				}
			}
		})
	}
}

// TestPayloadOrder looks at RAM in the midst of a round: in what order pages
// are visited shows in how the visited ones lie among the others.
func TestPayloadOrder(t *testing.T) {
	needKVM(t)
	for _, c := range []struct {
		payload string
		args    []uint64
		counter memory.GPA // offset of a word that counts the rounds
		random  bool
	}{
		{"churn", []uint64{0, 200, 0}, 0, false},
		{"churn", []uint64{0, 200, 1}, 0, true},
		{"shuffle", []uint64{200}, 2048, true},
	} {
		t.Run(fmt.Sprintf("%s random %v", c.payload, c.random), func(t *testing.T) {
			var changes float64 // between visited and not, a page
			_, _, _ = runPayload(t, argsConfig(t, c.payload, 1, 32<<20, c.args...),
				func(ctx context.Context, ram memory.Guest) (err error) {
					changes, err = midRound(ctx, ram, c.counter)
					return err
				})
			// Half of the pages picked at random make a change at every
			// second one, a quarter at three of eight. In sequence there is
			// one, and some more for a look that takes too long.
			if random := changes > 0.25; random != c.random || !random && changes > 0.05 {
				t.Errorf("%.4f changes a page", changes)
			}
		})
	}
}

// midRound waits for a moment when about half of the upper 16 MiB of RAM are a
// round ahead, and returns how often neighbours differ, a page.
func midRound(ctx context.Context, ram memory.Guest, counter memory.GPA) (float64, error) {
	const start, pages = 16 << 20, 4096
	for ctx.Err() == nil {
		var ahead, changes int
		var first, word [8]byte
		before := first
		for p := range memory.GPA(pages) {
			if _, err := ram.ReadAt(word[:], start+p*memory.PageSize+counter); err != nil {
				return 0, err
			}
			if p == 0 {
				first, before = word, word
			}
			if word != first {
				ahead++
			}
			if word != before {
				changes++
			}
			before = word
		}
		if ahead > pages/4 && ahead < pages*3/4 {
			return float64(changes) / pages, nil
		}
		runtime.Gosched()
	}
	return 0, errors.New("the guest was never seen in the midst of a round")
}

func TestPayloadZipf(t *testing.T) {
	needKVM(t)
	const size = 32 << 20
	for _, c := range []struct {
		name                        string
		cpus                        uint64
		set, accesses, skew, warmUp uint64
		// What share of the accesses the tenth of the pages that get most has
		// at least and at most. It is about 0.1^(1-s) for an exponent s.
		least, most float64
	}{
		{"defaults", 1, 0, 0, 0, 0, 0.6, 0.75},
		{"exponent 0.9", 2, 16 << 20, 200_000, 239, 0, 0.75, 0.9},
		{"nearly even", 2, 16 << 20, 100_000, 128, 100_000, 0.2, 0.45},
		{"one popular page", 2, 16 << 20, 10_000, 256, 0, 1, 1},
		{"one page", 2, 4096, 1000, 0, 50, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, out, ram := runPayload(t, argsConfig(t, "zipf", int(c.cpus), size, c.set, c.accesses, c.skew, c.warmUp), alone)
			var accesses, pages, cycles uint64
			if _, err := fmt.Sscanf(out, payload.ZipfReport, &accesses, &pages, &cycles); err != nil || r.Outcome.Code != 0 {
				t.Fatalf("exit code %d, %q: %v", r.Outcome.Code, out, err)
			}
			wantPages, want := c.set/memory.PageSize, c.cpus*c.accesses
			if c.set == 0 {
				wantPages = pages
			}
			if c.accesses == 0 {
				want = c.cpus * 8 * pages
			}
			if pages != wantPages || c.set == 0 && !allFree(pages, size) || accesses != want || cycles == 0 {
				t.Errorf("%q: want %d accesses to %d pages", out, want, wantPages)
			}

			type hits struct{ page, n uint64 }
			var by []hits
			var sum uint64
			ram = free(ram)
			for p := range pages {
				h := hits{page: p}
				for cpu := range c.cpus {
					h.n += ram[p*pageWords+2*cpu]
				}
				sum += h.n
				by = append(by, h)
			}
			if warmUp := c.cpus * c.warmUp; sum != accesses+warmUp {
				t.Errorf("%d accesses left their mark after %d to warm up, %q", sum, warmUp, out)
			}
			slices.SortFunc(by, func(a, b hits) int { return cmp.Compare(b.n, a.n) })
			tenth := max(len(by)/10, 1)
			var top uint64
			for _, h := range by[:tenth] {
				top += h.n
			}
			if share := float64(top) / float64(sum); share < c.least || share > c.most {
				t.Errorf("a tenth of the pages has %.3f of the accesses, want %g to %g", share, c.least, c.most)
			}
			// The most popular hundredth isn't in one place: of pages picked at
			// random, one in fifty has a neighbour among them.
			popular := make(map[uint64]bool)
			for _, h := range by[:len(by)/100] {
				popular[h.page] = h.n > 0
			}
			var neighbours int
			for p := range popular {
				if popular[p+1] || popular[p-1] {
					neighbours++
				}
			}
			if neighbours > len(popular)/8 {
				t.Errorf("%d of the %d most popular pages are neighbours", neighbours, len(popular))
			}
		})
	}
}
