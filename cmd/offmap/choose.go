package main

import (
	"slices"
	"strings"
)

// choose returns the members of all that --only names, or all of them without --only,
// except those that --skip names.
func choose[T any](what string, all []T, name func(T) string, only, skip []string) ([]T, error) {
	var have []string
	for _, t := range all {
		have = append(have, name(t))
	}
	for _, n := range slices.Concat(only, skip) {
		if !slices.Contains(have, n) {
			return nil, usage("unknown %s %q: have %s", what, n, strings.Join(have, ", "))
		}
	}
	chosen := slices.DeleteFunc(all, func(t T) bool {
		return len(only) > 0 && !slices.Contains(only, name(t)) || slices.Contains(skip, name(t))
	})
	if len(chosen) == 0 {
		return nil, usage("--only and --skip leave no %s", what)
	}
	return chosen, nil
}
