package main

import (
	"offmap/internal/lab/outside"
	"offmap/memory/exposure"
)

// outsideScan returns what searches this machine's RAM from outside, or nil
// where there is no outside: only in the lab there is.
func outsideScan() func(...exposure.Canary) ([]exposure.Hits, error) {
	if !outside.Available() {
		return nil
	}
	return outside.Scan
}
