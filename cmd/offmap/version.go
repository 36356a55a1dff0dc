package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"offmap/memory/attach"
)

// versionReport is the JSON document of offmap version.
type versionReport struct {
	Schema  string `json:"schema"`
	Version string `json:"version"` // as Go's modules have it, or "unknown"
	Commit  string `json:"commit"`  // or "unknown"
	// Modified: the sources had changes that are not in the commit.
	Modified  bool   `json:"modified"`
	Go        string `json:"go"`
	ModuleABI int    `json:"module_abi"`
}

// newVersionReport makes the report from the Go command's build information, which may
// be nil. A build outside of a git checkout has no version and no commit.
func newVersionReport(info *debug.BuildInfo) versionReport {
	r := versionReport{
		Schema: "offmap/version/v1", Version: "unknown", Commit: "unknown",
		Go: runtime.Version(), ModuleABI: attach.BridgeVersion,
	}
	if info == nil {
		return r
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		r.Version = v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			r.Commit = s.Value
		case "vcs.modified":
			r.Modified = s.Value == "true"
		}
	}
	return r
}

func thisVersion() versionReport {
	info, _ := debug.ReadBuildInfo()
	return newVersionReport(info)
}

func (r versionReport) String() string {
	modified := ""
	if r.Modified {
		modified = ", with changes"
	}
	return fmt.Sprintf("offmap      %s\ncommit      %s%s\nGo          %s\nmodule ABI  %d\n",
		r.Version, r.Commit, modified, r.Go, r.ModuleABI)
}

func newVersionCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version [flags]",
		Short: "Print the version of this program",
		Long: `version prints the version of this program, the commit and the Go version that
built it, and the version of the interface (ABI) that it needs from the bridge's
kernel module. An unknown value, as after a build outside of a git checkout, is
"unknown".`,
		Args: cobra.NoArgs,
		RunE: run(func(*cobra.Command, []string) error {
			if asJSON {
				return printJSON(os.Stdout, thisVersion())
			}
			_, err := fmt.Print(thisVersion())
			return err
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
