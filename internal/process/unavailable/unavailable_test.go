package unavailable

import (
	"errors"
	"fmt"
	"testing"
)

func TestNew(t *testing.T) {
	one, other := New("no such thing", "a thing"), New("no such thing", "")
	wrapped := fmt.Errorf("open: %w: %w", one, errors.New("ENOENT"))
	if !errors.Is(wrapped, Err) || !errors.Is(wrapped, one) || errors.Is(wrapped, other) {
		t.Errorf("%v isn't what it is, or is another", wrapped)
	}
	if got := Needs(wrapped); got != "a thing" {
		t.Errorf("needs %q", got)
	}
	if plain := errors.New("anything"); errors.Is(plain, Err) || Needs(plain) != "" || Needs(nil) != "" {
		t.Errorf("%v is unavailable", plain)
	}
}
