package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"offmap/audit"
	"offmap/guest/payload"
	"offmap/internal/lab/debian"
	"offmap/internal/measure/limits"
	"offmap/memory"
	"offmap/memory/attach"
)

func newCompletionCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print the completion script of a shell: bash, zsh or fish",
		Long: `completion prints a script that makes the shell complete offmap's commands, flags
and the values of flags. The package and make install install that script.`,
		Example: `  source <(offmap completion bash)
  offmap completion fish > ~/.config/fish/completions/offmap.fish`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: run(func(cmd *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(os.Stdout, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(os.Stdout)
			default:
				return cmd.Root().GenFishCompletion(os.Stdout, true)
			}
		}),
	}
}

// flagValues are the values that a shell completes, by flag, or by command and flag if
// commands differ. The text after a tab describes the value.
func flagValues() map[string][]string {
	backends, methods, series := texts(memory.Backends()), texts(attach.Methods()), debian.KnownSeries()
	kernels := make([]string, len(series))
	for i, s := range series {
		kernels[i] = "debian:" + s
	}
	var avenues, ids, scenarios []string
	for _, a := range audit.Avenues() {
		avenues = append(avenues, a.Name+"\t"+a.About)
	}
	for _, l := range limits.All() {
		ids = append(ids, l.ID+"\t"+l.Title)
	}
	for _, s := range benchScenarios() {
		scenarios = append(scenarios, s.Name+"\t"+s.About)
	}
	return map[string][]string{
		"log-format":  {"text", "json"},
		"backend":     backends,
		"attach":      methods,
		"kernel":      kernels,
		"lab kernel":  append([]string{"all"}, series...),
		"payload":     payload.Names(),
		"console":     {consoleSerial, consoleVirtio},
		"fail-on":     {failExposed, failInconclusive, failNever},
		"format":      formats,
		"audit only":  avenues,
		"audit skip":  avenues,
		"bench only":  scenarios,
		"bench skip":  scenarios,
		"limits only": ids,
	}
}

func texts[T any](list []T) []string {
	s := make([]string, len(list))
	for i, v := range list {
		s[i] = fmt.Sprint(v)
	}
	return s
}

// addCompletions makes the shells complete the values of the flags of cmd and of the
// commands below it. They complete files only for flags that take one.
// Only a completion asks for the values: some take time and file descriptors.
func addCompletions(cmd *cobra.Command) {
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Value.Type() == "bool" {
			return
		}
		directive := cobra.ShellCompDirectiveNoFileComp
		what, _ := pflag.UnquoteUsage(f)
		what, _, _ = strings.Cut(what, "[") // options of the value
		switch what {
		case "FILE", "KERNEL":
			directive = cobra.ShellCompDirectiveDefault
		case "DIR":
			directive = cobra.ShellCompDirectiveFilterDirs
		}
		many := f.Value.Type() == "stringSlice"
		// The only error is for a flag that already has a completion. In a
		// new tree of commands none has.
		_ = cmd.RegisterFlagCompletionFunc(f.Name, func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			list := valuesOf(cmd, f.Name)
			if many {
				return completeList(list, typed), directive
			}
			return list, directive
		})
	})
	for _, sub := range cmd.Commands() {
		addCompletions(sub)
	}
}

// valuesOf returns the values of a flag of cmd.
func valuesOf(cmd *cobra.Command, flag string) []string {
	values := flagValues()
	list, ok := values[cmd.Name()+" "+flag]
	if !ok && cmd.HasParent() { // offmap lab shell has the flags of offmap lab
		list, ok = values[cmd.Parent().Name()+" "+flag]
	}
	if !ok {
		list = values[flag]
	}
	return list
}

// completeList completes the last value in a list separated by commas, with the values
// that the list doesn't have yet.
func completeList(values []string, typed string) []string {
	cut := strings.LastIndexByte(typed, ',') + 1
	have := strings.Split(typed[:cut], ",")
	var rest []string
	for _, v := range values {
		if name, _, _ := strings.Cut(v, "\t"); !slices.Contains(have, name) {
			rest = append(rest, typed[:cut]+v)
		}
	}
	return rest
}
