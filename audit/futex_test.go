package audit

import (
	"testing"

	"offmap/audit/inject"
	"offmap/memory"
)

func TestFutex(t *testing.T) { testAttack(t, futex) }

// What a page of the VMM's own memory is asked is counted: with 64 questions
// each, an audit on an emulated processor took most of its time for them, and a
// machine with other work gave up on it.
func TestFutexQuestions(t *testing.T) {
	v := startVictim(t, memory.Secret)
	pages, _, err := v.sample(t.Context(), sampled)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	_, err = v.inject(t.Context(), func(th *inject.Thread) (Finding, error) {
		f, tried, err := v.searchFutex(t.Context(), pages, func(addr uint64, value uint32) (bool, error) {
			asked++
			return futexIs(th, addr, value)
		})
		if tried != len(pages) {
			t.Errorf("%d of %d pages tried", tried, len(pages))
		}
		return f, err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d pages, %d questions", len(pages), asked)
	if asked == 0 || asked > len(pages) {
		t.Errorf("%d questions for %d pages, want one a page at most", asked, len(pages))
	}
}
