package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"offmap/audit"
	"offmap/internal/measure/limits"
)

// TestThreatModel holds that the attacks and limits that the threat model
// refers to are there to be run.
func TestThreatModel(t *testing.T) {
	page, err := os.ReadFile("../../../docs/threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, a := range audit.Avenues() {
		have["audit: "+a.Name] = true
	}
	for _, l := range limits.All() {
		have["limit: "+l.ID] = true
	}
	cited := 0
	for _, cite := range regexp.MustCompile(`\*\(((?:audit|limit): [^)]*)\)\*`).FindAllStringSubmatch(string(page), -1) {
		for _, group := range strings.Split(cite[1], ";") {
			kind, names, _ := strings.Cut(strings.TrimSpace(group), ":")
			for _, name := range strings.Split(names, ",") {
				cited++
				if c := kind + ": " + strings.TrimSpace(name); !have[c] && !strings.HasSuffix(c, ": x") {
					t.Errorf("the threat model refers to (%s), which there isn't", c)
				}
			}
		}
	}
	if cited < 20 {
		t.Errorf("only %d references found", cited)
	}
}
