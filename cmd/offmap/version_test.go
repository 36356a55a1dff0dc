package main

import (
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/google/go-cmp/cmp"

	"offmap/memory/attach"
)

func TestVersionReport(t *testing.T) {
	none := versionReport{
		Schema: "offmap/version/v1", Version: "unknown", Commit: "unknown",
		Go: runtime.Version(), ModuleABI: attach.BridgeVersion,
	}
	checkout := none
	checkout.Version, checkout.Commit, checkout.Modified = "v1.2.3", "0123abcd", true
	for name, c := range map[string]struct {
		info *debug.BuildInfo
		want versionReport
	}{
		"no build info": {nil, none},
		"no checkout":   {&debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, none},
		"checkout": {&debug.BuildInfo{
			Main: debug.Module{Version: "v1.2.3"},
			Settings: []debug.BuildSetting{
				{Key: "vcs.revision", Value: "0123abcd"}, {Key: "vcs.modified", Value: "true"},
			},
		}, checkout},
	} {
		if diff := cmp.Diff(c.want, newVersionReport(c.info)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}
