package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"offmap/internal/measure/probe"
	"offmap/memory"
	"offmap/memory/attach"
)

var (
	memfd  = Subject{Pair: attach.Pair{Backend: memory.Memfd, Attach: attach.Direct}}
	anon   = Subject{Pair: attach.Pair{Backend: memory.Anon, Attach: attach.Direct}}
	secret = Subject{Pair: attach.Pair{Backend: memory.Secret, Attach: attach.ViaBridge}}
	plainC = Subject{Peer: C}
)

// fakeHost returns a host with a kernel that doesn't exist.
func fakeHost(accel string) Host {
	return Host{Host: probe.Host{Kernel: "9.9", KVM: "svm", Accel: accel, CPUs: 2, Model: "a CPU"}, THP: "never"}
}

// everyone returns all subjects that work.
func everyone(_ *Env, working []Subject) []Subject { return working }

// fake returns a scenario of one metric. Its sample is a function of the subject and
// of how often that was sampled before.
func fake(name string, sample func(s Subject, n int) (float64, error)) Scenario {
	asked := map[Subject]int{}
	return Scenario{
		Name: name, Metrics: []Metric{{Name: "time", Unit: "ns/op"}}, Subjects: everyone,
		Sample: func(_ context.Context, _ *Env, s Subject) ([]float64, error) {
			v, err := sample(s, asked[s])
			asked[s]++
			return []float64{v}, err
		},
	}
}

func plan(rounds int, working []Subject, scenarios ...Scenario) Plan {
	return Plan{Env: &Env{Host: fakeHost("kvm")}, Scenarios: scenarios, Working: working, Rounds: rounds}
}

// find returns a subject's result by name.
func find(t *testing.T, d *Document, name string, s Subject) Result {
	t.Helper()
	for _, r := range d.Results {
		if r.Name == name && r.Subject == s {
			return r
		}
	}
	t.Fatalf("no %s of %s", name, s)
	return Result{}
}

// TestRounds checks the order of samples: each subject in each round, in an order
// that rotates, after a round to warm up.
func TestRounds(t *testing.T) {
	var order []string
	sc := fake("turns", func(s Subject, n int) (float64, error) {
		order = append(order, fmt.Sprintf("%s %d", s.Backend, n))
		return float64(100*len(order) + n), nil
	})
	d := plan(3, []Subject{anon, memfd, secret}, sc).Run(t.Context())
	want := []string{
		"anon 0", "memfd 0", "secret 0",
		"memfd 1", "secret 1", "anon 1",
		"secret 2", "anon 2", "memfd 2",
		"anon 3", "memfd 3", "secret 3",
	}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Errorf("order:\n%s", diff)
	}
	// The values are in the order taken, without those of the warm-up.
	if r := find(t, d, "turns/time", memfd); !cmp.Equal(r.Values, []float64{401, 902, 1103}) || r.Status != Measured {
		t.Errorf("%+v", r)
	}
	if got := d.Results[0].Subject; got != memfd {
		t.Errorf("%s comes first, want what others are compared with", got)
	}
	if d.Partial || d.Failed() || d.Schema != Schema {
		t.Errorf("%+v", d)
	}
}

// TestRefusedAndFailed checks that a subject which can't be measured, or fails, isn't
// sampled again, has a reason, and doesn't affect the others.
func TestRefusedAndFailed(t *testing.T) {
	var asked []Subject
	sc := fake("some", func(s Subject, n int) (float64, error) {
		asked = append(asked, s)
		switch {
		case s == anon:
			return 0, fmt.Errorf("no huge pages: %w", ErrCannot)
		case s == secret:
			return 0, ErrEmulated
		case s == plainC && n == 2:
			return 0, errors.New("broke")
		}
		return 1, nil
	})
	d := plan(4, []Subject{anon, memfd, secret, plainC}, sc).Run(t.Context())
	for _, c := range []struct {
		subject Subject
		asked   int
		status  Status
		reason  string
		values  int
	}{
		{anon, 1, Refused, "no huge pages", 0},
		{secret, 1, Refused, "emulated", 0},
		{plainC, 3, Failed, "broke", 0},
		{memfd, 5, Measured, "", 4},
	} {
		n := 0
		for _, s := range asked {
			if s == c.subject {
				n++
			}
		}
		r := find(t, d, "some/time", c.subject)
		if n != c.asked || r.Status != c.status || !strings.Contains(r.Reason, c.reason) || len(r.Values) != c.values || r.Values == nil {
			t.Errorf("%s: asked %d times, %+v; want %+v", c.subject, n, r, c)
		}
	}
	if !d.Failed() || d.Partial {
		t.Errorf("failed %v, partial %v", d.Failed(), d.Partial)
	}
}

// TestNative checks that native scenarios aren't measured under TCG.
func TestNative(t *testing.T) {
	for accel, want := range map[string]Status{"kvm": Measured, "pvm": Measured, "tcg": Refused} {
		asked := false
		sc := fake("native", func(Subject, int) (float64, error) { asked = true; return 1, nil })
		sc.Native = true
		p := plan(2, []Subject{memfd, plainC}, sc)
		p.Env.Host = fakeHost(accel)
		d := p.Run(t.Context())
		for _, s := range []Subject{memfd, plainC} {
			if r := find(t, d, "native/time", s); r.Status != want || r.Accel != accel || asked != (want == Measured) {
				t.Errorf("%s: %+v, asked %v", accel, r, asked)
			}
		}
		if want == Refused && !strings.Contains(d.Results[0].Reason, "accel tcg") {
			t.Errorf("refused because %q", d.Results[0].Reason)
		}
	}
}

// TestMetrics checks samples with NaN, with infinity and with too few values.
func TestMetrics(t *testing.T) {
	for _, c := range []struct {
		name   string
		sample func(n int) []float64
		want   string // statuses of the metrics a and b
	}{
		{"both", func(int) []float64 { return []float64{1, 2} }, "measured measured"},
		{"never", func(int) []float64 { return []float64{1, math.NaN()} }, "measured -"},
		{"sometimes", func(n int) []float64 { return []float64{1, []float64{2, math.NaN()}[n%2]} }, "measured partial: 2 of 3 values: some samples have none"},
		{"infinite", func(int) []float64 { return []float64{1, math.Inf(1)} }, "failed: b is infinite failed: b is infinite"},
		{"too few", func(int) []float64 { return []float64{1} }, "failed: 1 values for 2 metrics failed: 1 values for 2 metrics"},
	} {
		n := 0
		sc := Scenario{
			Name: "s", Metrics: []Metric{{Name: "a", Unit: "B"}, {Name: "b", Unit: "B"}}, Subjects: everyone,
			Sample: func(context.Context, *Env, Subject) ([]float64, error) { n++; return c.sample(n), nil },
		}
		d := plan(3, []Subject{memfd}, sc).Run(t.Context())
		got := map[string]string{"s/a": "-", "s/b": "-"}
		for _, r := range d.Results {
			got[r.Name] = string(r.Status)
			if r.Reason != "" {
				got[r.Name] += ": " + strings.TrimSuffix(r.Reason, ": this is a bug in offmap")
			}
		}
		if both := got["s/a"] + " " + got["s/b"]; both != c.want {
			t.Errorf("%s: %s; want %s", c.name, both, c.want)
		}
	}
}

// TestCancelled ends a run in its second round. The values so far are kept, and
// marked as partial.
func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	first := fake("first", func(s Subject, n int) (float64, error) {
		if s == memfd && n == 2 {
			cancel()
			return 0, errors.New("killed by the same signal") // which is no failure
		}
		return float64(n), nil
	})
	never := fake("never", func(Subject, int) (float64, error) { t.Error("measured after the end"); return 0, nil })
	d := plan(6, []Subject{anon, memfd}, first, never).Run(ctx)
	if !d.Partial || d.Failed() || len(d.Results) != 2 {
		t.Fatalf("%+v", d)
	}
	for s, want := range map[Subject][]float64{anon: {1, 2}, memfd: {1}} {
		if r := find(t, d, "first/time", s); r.Status != Partial || !cmp.Equal(r.Values, want) || !strings.Contains(r.Reason, "of 6 values: stopped") {
			t.Errorf("%s: %+v, want values %v", s, r, want)
		}
	}
	// Before the first value there are no results.
	ctx, cancel = context.WithCancel(t.Context())
	warm := fake("warm", func(Subject, int) (float64, error) { cancel(); return 1, nil })
	if d := plan(6, []Subject{anon}, warm).Run(ctx); !d.Partial || len(d.Results) != 0 {
		t.Errorf("%+v", d)
	}
}

// sleeper returns a scenario whose samples take that long.
func sleeper(name string, d time.Duration) Scenario {
	sc := fake(name, nil)
	sc.Sample = func(ctx context.Context, _ *Env, _ Subject) ([]float64, error) {
		select {
		case <-time.After(d):
			return []float64{d.Seconds()}, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return sc
}

// TestTime checks how a run's time is divided, with and without --quick.
func TestTime(t *testing.T) {
	for _, c := range []struct {
		name     string
		quick    bool
		rounds   int
		duration time.Duration
		samples  []time.Duration // of each scenario, with two subjects
		want     []int           // values
		took     time.Duration
	}{
		{"by rounds", false, 6, 0, []time.Duration{time.Second, 2 * time.Second}, []int{6, 6}, 42 * time.Second},
		// A scenario that needs more than its share leaves less for the others.
		{"by duration", false, 6, 100 * time.Second, []time.Duration{time.Second, 10 * time.Second}, []int{24, 6}, 190 * time.Second},
		{"longer than rounds", false, 1, time.Second, []time.Duration{time.Second}, []int{1}, 4 * time.Second},
		{"at most", false, 1, time.Hour, []time.Duration{time.Microsecond}, []int{maxRounds}, 2 * (maxRounds + 1) * time.Microsecond},
		{"quick", true, 6, 50 * time.Second, []time.Duration{time.Second, time.Second}, []int{6, 6}, 28 * time.Second},
		// The second scenario gets the time that the first hasn't used.
		{"quick, too slow", true, 6, 50 * time.Second, []time.Duration{time.Second, 4 * time.Second}, []int{6, 3}, 46 * time.Second},
		{"quick, much too slow", true, 6, 50 * time.Second, []time.Duration{time.Minute, time.Second}, []int{1, 0}, 240 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := plan(c.rounds, []Subject{anon, memfd})
				p.Env.Quick, p.Duration = c.quick, c.duration
				for i, d := range c.samples {
					p.Scenarios = append(p.Scenarios, sleeper(fmt.Sprint(i), d))
				}
				start := time.Now()
				d := p.Run(t.Context())
				if took := time.Since(start); took != c.took || d.Seconds != c.took.Seconds() {
					t.Errorf("took %v, the document says %v s, want %v", took, d.Seconds, c.took)
				}
				for i, want := range c.want {
					r := find(t, d, fmt.Sprintf("%d/time", i), memfd)
					status := Measured
					switch {
					case want == 0:
						status = Refused
					case want < c.rounds:
						status = Partial
					}
					if len(r.Values) != want || r.Status != status {
						t.Errorf("scenario %d: %d values, %s (%s), want %d", i, len(r.Values), r.Status, r.Reason, want)
					}
				}
			})
		})
	}
}

// TestStuck checks that a sample which hangs doesn't keep others from being taken.
func TestStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := plan(1, []Subject{anon}, sleeper("stuck", time.Hour), sleeper("after", time.Second)).Run(t.Context())
		if r := find(t, d, "stuck/time", anon); r.Status != Failed || !strings.Contains(r.Reason, "still running") {
			t.Errorf("%+v", r)
		}
		find(t, d, "after/time", anon)
	})
}

// TestProgress checks the estimate of the time left for samples of equal length, and
// that Done goes from 0 to 1.
func TestProgress(t *testing.T) {
	for _, quick := range []bool{false, true} {
		for _, duration := range []time.Duration{0, 20 * time.Second, 100 * time.Second} {
			synctest.Test(t, func(t *testing.T) {
				p := plan(6, []Subject{anon, memfd}, sleeper("a", time.Second), sleeper("b", time.Second))
				p.Env.Quick, p.Duration = quick, duration
				type at struct {
					when time.Time
					Progress
				}
				var seen []at
				p.Progress = func(p Progress) { seen = append(seen, at{time.Now(), p}) }
				p.Run(t.Context())
				end := time.Now()
				if seen[0].Left >= 0 || seen[0].Done != 0 || seen[0].Round != 0 {
					t.Errorf("before anything is known: %+v", seen[0].Progress)
				}
				for _, s := range seen[1:] {
					if left := end.Sub(s.when); (s.Left-left).Abs() > 3*time.Second || s.Done <= 0 || s.Done >= 1 {
						t.Errorf("quick %v, %v: %s, round %d: says %v left and %.0f %% done, where %v were left", quick, duration, s.Scenario, s.Round, s.Left, 100*s.Done, left)
					}
				}
			})
		}
	}
}

// TestLost checks that a lost sample doesn't affect others.
func TestLost(t *testing.T) {
	asked := 0
	sc := fake("lossy", func(s Subject, n int) (float64, error) {
		if s == anon {
			asked++
		}
		lost := fmt.Errorf("%w: no. %d", ErrLost, n)
		switch {
		case s == memfd && n == 2, s == anon, s == secret && n > 0:
			return 0, lost
		}
		return 7, nil
	})
	d := plan(3, []Subject{memfd, anon, secret}, sc).Run(t.Context())
	if r := find(t, d, "lossy/time", memfd); r.Status != Partial || len(r.Values) != 2 || !strings.Contains(r.Reason, "1 samples were lost, the last one: lost: no. 2") {
		t.Errorf("one is lost: %+v", r)
	}
	for _, s := range []Subject{anon, secret} {
		if r := find(t, d, "lossy/time", s); r.Status != Failed || len(r.Values) != 0 || !strings.Contains(r.Reason, "lost: no.") {
			t.Errorf("all are lost: %+v", r)
		}
	}
	if asked != 2 {
		t.Errorf("one that loses all is asked %d times, want 2", asked)
	}
}
