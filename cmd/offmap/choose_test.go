package main

import (
	"strings"
	"testing"

	"offmap/internal/process/exitcode"
)

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		only, skip []string
		want, err  string
	}{
		{nil, nil, "a b c", ""},
		{[]string{"c", "a"}, nil, "a c", ""},
		{nil, []string{"b"}, "a c", ""},
		{[]string{"a", "b"}, []string{"a"}, "b", ""},
		{[]string{"a"}, []string{"a"}, "", "leave no letter"},
		{[]string{"a", "d"}, nil, "", `unknown letter "d": have a, b, c`},
		{nil, []string{"d"}, "", `unknown letter "d"`},
	} {
		got, err := choose("letter", []string{"a", "b", "c"}, func(s string) string { return s }, c.only, c.skip)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) || exitCode(err) != exitcode.Usage {
				t.Errorf("only %v, skip %v: %v, exit code %d", c.only, c.skip, err, exitCode(err))
			}
		} else if strings.Join(got, " ") != c.want || err != nil {
			t.Errorf("only %v, skip %v: %v, %v; want %s", c.only, c.skip, got, err, c.want)
		}
	}
}
