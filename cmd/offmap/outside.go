package main

import (
	"context"

	"offmap/internal/lab/outside"
	"offmap/memory/exposure"
)

// outsideScan returns what searches this machine's RAM from outside, or nil
// where there is no outside: only in the lab there is.
func outsideScan() func(context.Context, exposure.Canary) (exposure.Hits, error) {
	if !outside.Available() {
		return nil
	}
	return func(_ context.Context, c exposure.Canary) (exposure.Hits, error) {
		hits, err := outside.Scan(c)
		if err != nil {
			return exposure.Hits{}, err
		}
		return hits[0], nil
	}
}
