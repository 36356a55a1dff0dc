package bench

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"offmap/guest/payload"
	"offmap/vmm"
	"offmap/vmm/virtio"
)

const testKHz = 2_000_000

// honest returns a correct report of a guest with that many vCPUs, whose marks take
// 2 µs each and are 100 ms apart, and the host's times of them.
func honest(cpus int) (accesses, payload.BenchReport, []time.Time) {
	p := accesses{cpus: cpus, size: 4096, ops: []access{{kind: "fill"}, {kind: "read-8"}, {kind: "chase"}}}
	r := payload.BenchReport{Stretches: make([][]payload.BenchStretch, len(p.ops))}
	var host []time.Time
	const khz = testKHz / 1000 // cycles a microsecond
	start := time.Now()
	mark := func(us uint64) payload.BenchMark {
		host = append(host, start.Add(time.Duration(us+1)*time.Microsecond))
		return payload.BenchMark{Before: 1e9 + us*khz, After: 1e9 + (us+2)*khz}
	}
	for i := range r.First {
		r.First[i] = mark(uint64(3 * i))
	}
	for i := range r.Last {
		r.Last[i] = mark(uint64(100_000 + 3*i))
	}
	for i := range r.Stretches {
		for c := range cpus {
			s := payload.BenchStretch{}
			if i > 0 {
				s = payload.BenchStretch{Start: 1e9 + uint64(1000*i+c)*khz, End: 1e9 + uint64(1000*i+500+c)*khz, Units: 1000}
			}
			r.Stretches[i] = append(r.Stretches[i], s)
		}
	}
	return p, r, host
}

func TestJudge(t *testing.T) {
	p, r, host := honest(1)
	got, err := p.judge(r, host, testKHz)
	if err != nil || len(got) != 2 || got[0] != (measured{1000, 500e-6}) || got[1] != (measured{1000, 500e-6}) {
		t.Errorf("%v, %v", got, err)
	}
	if got[0].perSecond() != 2e6 || got[0].nanoseconds(8) != 4000 {
		t.Errorf("%v a second, %v ns", got[0].perSecond(), got[0].nanoseconds(8))
	}
	// Two vCPUs count as one, from the first one's start to the last one's end.
	p, r, host = honest(2)
	if got, err := p.judge(r, host, testKHz); err != nil || got[1] != (measured{2000, 501e-6}) {
		t.Errorf("%v, %v", got, err)
	}
}

// TestJudgeRefuses checks that impossible values are an error.
func TestJudgeRefuses(t *testing.T) {
	const khz = testKHz / 1000
	for _, c := range []struct {
		name, says string
		change     func(p *accesses, r *payload.BenchReport, host *[]time.Time, khz *int)
	}{
		{"no units", "can't be", func(_ *accesses, r *payload.BenchReport, _ *[]time.Time, _ *int) { r.Stretches[1][0].Units = 0 }},
		{"units beyond reason", "can't be", func(_ *accesses, r *payload.BenchReport, _ *[]time.Time, _ *int) {
			r.Stretches[1][0].Units = math.MaxUint64
		}},
		{"no time", "can't be", func(_ *accesses, r *payload.BenchReport, _ *[]time.Time, _ *int) {
			r.Stretches[2][0].End = r.Stretches[2][0].Start
		}},
		{"back in time", "can't be", func(_ *accesses, r *payload.BenchReport, _ *[]time.Time, _ *int) {
			r.Stretches[2][0].End = r.Stretches[2][0].Start - 1
		}},
		{"before the marks", "can't be", func(_ *accesses, r *payload.BenchReport, _ *[]time.Time, _ *int) { r.Stretches[1][0].Start = 1 }},
		{"after the marks", "can't be", func(_ *accesses, r *payload.BenchReport, _ *[]time.Time, _ *int) {
			r.Stretches[1][0].End = math.MaxUint64
		}},
		{"too few marks", "15 moments instead of 16", func(_ *accesses, _ *payload.BenchReport, h *[]time.Time, _ *int) { *h = (*h)[1:] }},
		{"too many marks", "17 moments", func(_ *accesses, _ *payload.BenchReport, h *[]time.Time, _ *int) { *h = append(*h, time.Now()) }},
		{"a mark back in time", errClock.Error(), func(_ *accesses, r *payload.BenchReport, _ *[]time.Time, _ *int) { r.First[0].After = 0 }},
		{"marks back in time", errClock.Error(), func(_ *accesses, r *payload.BenchReport, _ *[]time.Time, _ *int) { r.Last[3] = r.Last[1] }},
		{"the end before the start", errClock.Error(), func(_ *accesses, r *payload.BenchReport, _ *[]time.Time, _ *int) {
			r.First, r.Last = r.Last, r.First
		}},
		{"a TSC that is 1 % too fast", errClock.Error(), func(_ *accesses, _ *payload.BenchReport, _ *[]time.Time, k *int) { *k += *k / 100 }},
		{"a TSC that is 1 % too slow", errClock.Error(), func(_ *accesses, _ *payload.BenchReport, _ *[]time.Time, k *int) { *k -= *k / 100 }},
		{"no TSC", "0 kHz", func(_ *accesses, _ *payload.BenchReport, _ *[]time.Time, k *int) { *k = 0 }},
		{"slow marks", "interrupted", func(_ *accesses, r *payload.BenchReport, _ *[]time.Time, _ *int) {
			for i := range r.First {
				at := 1e9 + uint64(i)*2001*khz
				r.First[i] = payload.BenchMark{Before: at, After: at + 2000*khz}
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, r, host := honest(1)
			khz := testKHz
			c.change(&p, &r, &host, &khz)
			if got, err := p.judge(r, host, khz); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, %v; want %q", got, err, c.says)
			}
		})
	}
	// One interrupted mark is not an error.
	p, r, host := honest(1)
	r.First[0].Before -= 5000 * khz
	if _, err := p.judge(r, host, testKHz); err != nil {
		t.Error(err)
	}
}

func TestCheckNative(t *testing.T) {
	n := func(v uint64) *uint64 { return &v }
	for _, c := range []struct {
		emulated *uint64
		want     error
	}{
		{nil, ErrCannot}, {n(0), nil}, {n(75 + fewEmulated), nil}, {n(76 + fewEmulated), ErrEmulated}, {n(1e9), ErrEmulated},
	} {
		r := vmm.Result{Emulated: c.emulated, Exits: map[string]uint64{"io": 50, "mmio": 20, "shutdown": 1}}
		r.Devices = []virtio.Stats{{Requests: map[string]uint64{"read": 2, "write": 3}}}
		if err := checkNative(r); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%v emulated: %v", c.emulated, err)
		}
	}
	if !errors.Is(ErrEmulated, ErrCannot) {
		t.Error("ErrEmulated is no ErrCannot")
	}
}

// FuzzJudge checks that judge returns only positive and finite values, whatever is
// in the guest's memory.
func FuzzJudge(f *testing.F) {
	p, honestly, _ := honest(2)
	f.Add(encodeReport(p, honestly), true, testKHz)
	f.Add(make([]byte, payload.BenchSize(3, 2)), true, testKHz)
	f.Fuzz(func(t *testing.T, b []byte, agree bool, khz int) {
		if len(b) < payload.BenchSize(len(p.ops), p.cpus) {
			return
		}
		r := payload.DecodeBench(b, len(p.ops), p.cpus)
		var host []time.Time
		start := time.Unix(0, 0)
		for _, marks := range [][]payload.BenchMark{r.First[:], r.Last[:]} {
			for _, m := range marks {
				at := start
				if agree && khz > 0 {
					at = start.Add(time.Duration(float64(m.Before-r.First[0].Before) / float64(khz) * 1e6))
				}
				host = append(host, at)
			}
		}
		got, err := p.judge(r, host, khz)
		if err == nil && len(got) != p.results() {
			t.Errorf("%d results", len(got))
		}
		for _, m := range got {
			for _, v := range []float64{m.perSecond(), m.nanoseconds(1), m.nanoseconds(4096)} {
				if !(v > 0) || math.IsInf(v, 0) {
					t.Errorf("%+v gives %v", m, v)
				}
			}
		}
	})
}

// encodeReport returns a report as a guest writes it for DecodeBench.
func encodeReport(p accesses, r payload.BenchReport) []byte {
	b := make([]byte, payload.BenchSize(len(p.ops), p.cpus))
	at := len(b) - 64*len(p.ops)*p.cpus
	for _, s := range r.Stretches {
		for _, c := range s {
			binary.LittleEndian.PutUint64(b[at:], c.Start)
			binary.LittleEndian.PutUint64(b[at+8:], c.End)
			binary.LittleEndian.PutUint64(b[at+16:], c.Units)
			at += 64
		}
	}
	at = 64
	for _, marks := range [][]payload.BenchMark{r.First[:], r.Last[:]} {
		for _, m := range marks {
			binary.LittleEndian.PutUint64(b[at:], m.Before)
			binary.LittleEndian.PutUint64(b[at+8:], m.After)
			at += 16
		}
	}
	return b
}
