package audit

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"offmap/memory"
	"offmap/memory/attach"
)

// TestAttackHangs holds that an attack which takes too long, or doesn't end even
// then, makes its avenue inconclusive and says what it waited for; and that the
// others are made.
func TestAttackHangs(t *testing.T) {
	defer func(a, e time.Duration) { attackTime, endTime = a, e }(attackTime, endTime)
	attackTime, endTime = 50*time.Millisecond, 50*time.Millisecond
	released := make(chan struct{})
	defer close(released)
	attacks := map[string]func(context.Context, Target) (Finding, error){
		"slow": func(ctx context.Context, _ Target) (Finding, error) {
			<-ctx.Done()
			return Finding{}, errors.New("call 202 of thread 7")
		},
		"hangs": func(context.Context, Target) (Finding, error) {
			<-released
			return Finding{}, nil
		},
		"after": func(context.Context, Target) (Finding, error) {
			return Finding{Pages: 1}, nil
		},
	}
	want := map[string]struct {
		verdict  Verdict
		evidence string
	}{
		"slow":  {Inconclusive, "not done after 50ms: call 202 of thread 7"},
		"hangs": {Inconclusive, "not done after 50ms, nor 50ms after it was told to end: no thread of process"},
		"after": {Exposed, ""},
	}
	var said strings.Builder
	c := Config{
		Columns:  []Column{{Pair: attach.Pair{Backend: memory.Secret, Attach: attach.ViaBridge}, Running: &Target{PID: os.Getpid()}}},
		Progress: func(s string) { said.WriteString(s) },
	}
	for _, name := range []string{"slow", "hangs", "after"} {
		c.Avenues = append(c.Avenues, Avenue{Name: name, Owner: true, Attack: attacks[name]})
	}
	r, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range r.Columns[0].Avenues {
		if w := want[a.Name]; a.Verdict != w.verdict || !strings.Contains(a.Evidence, w.evidence) {
			t.Errorf("%s: %s: %s, want %s: %s", a.Name, a.Verdict, a.Evidence, w.verdict, w.evidence)
		}
	}
	if !strings.Contains(said.String(), "TestAttackHangs.func") {
		t.Errorf("no stacks in what was said:\n%s", &said)
	}
}
