package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newManCmd writes the manual pages, for make install.
func newManCmd() *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "Write the manual pages of all commands into a directory",
		Hidden: true, Args: cobra.ExactArgs(1),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			return writeManuals(args[0], cmd.Root())
		}),
	}
}

// writeManuals writes the pages of cmd and of all commands below it into dir.
func writeManuals(dir string, cmd *cobra.Command) error {
	if !cmd.IsAvailableCommand() && cmd.HasParent() {
		return nil
	}
	if err := os.WriteFile(filepath.Join(dir, pageName(cmd)+".1"), []byte(manual(cmd)), 0o644); err != nil {
		return err
	}
	for _, sub := range cmd.Commands() {
		if err := writeManuals(dir, sub); err != nil {
			return err
		}
	}
	return nil
}

func pageName(cmd *cobra.Command) string {
	return strings.ReplaceAll(cmd.CommandPath(), " ", "-")
}

// manual returns the page of cmd in the language of man(7).
func manual(cmd *cobra.Command) string {
	var b strings.Builder
	section := func(title string) { fmt.Fprintf(&b, ".SH %s\n", title) }
	fmt.Fprintf(&b, ".TH %s 1 \"\" %q \"User Commands\"\n", roff(strings.ToUpper(pageName(cmd))), "offmap "+thisVersion().Version)
	section("NAME")
	fmt.Fprintf(&b, "%s \\- %s\n", roff(pageName(cmd)), roff(cmd.Short))
	section("SYNOPSIS")
	fmt.Fprintf(&b, "%s\n", roff(cmd.UseLine()))
	section("DESCRIPTION")
	paragraphs(&b, cmd.Long)
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	for _, set := range []struct {
		title string
		flags *pflag.FlagSet
	}{
		{"OPTIONS", cmd.NonInheritedFlags()}, {"GLOBAL OPTIONS", cmd.InheritedFlags()},
	} {
		if set.flags.HasAvailableFlags() {
			section(set.title)
			set.flags.VisitAll(func(f *pflag.Flag) { option(&b, f) })
		}
	}
	if cmd.HasAvailableSubCommands() {
		section("COMMANDS")
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(&b, ".TP\n\\fB%s\\fR(1)\n%s\n", roff(pageName(sub)), roff(sub.Short))
			}
		}
	}
	if cmd.Example != "" {
		section("EXAMPLES")
		verbatim(&b, strings.Split(cmd.Example, "\n"))
	}
	if cmd.HasParent() {
		section("SEE ALSO")
		fmt.Fprintf(&b, "\\fB%s\\fR(1)\n", roff(pageName(cmd.Parent())))
	}
	return b.String()
}

func option(b *strings.Builder, f *pflag.Flag) {
	if f.Hidden {
		return
	}
	what, usage := pflag.UnquoteUsage(f)
	names := `\fB\-\-` + roff(f.Name) + `\fR`
	if f.Shorthand != "" {
		names = `\fB\-` + roff(f.Shorthand) + `\fR, ` + names
	}
	if what != "" {
		names += ` \fI` + roff(what) + `\fR`
	}
	// As in --help: no default if it is the zero value or the text names it.
	if zero := map[string]bool{"": true, "0": true, "0s": true, "false": true, "[]": true}; !zero[f.DefValue] && !strings.Contains(usage, "default") {
		usage += " (default " + f.DefValue + ")"
	}
	fmt.Fprintf(b, ".TP\n%s\n%s\n", names, roff(usage))
}

// paragraphs writes text in paragraphs, which blank lines separate. Indented lines stay
// as they are.
func paragraphs(b *strings.Builder, text string) {
	for i, p := range strings.Split(strings.Trim(text, "\n"), "\n\n") {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		for lines := strings.Split(p, "\n"); len(lines) > 0; {
			n := 0
			for n < len(lines) && (strings.HasPrefix(lines[n], "  ") || strings.HasPrefix(lines[n], "\t")) {
				n++
			}
			if n > 0 {
				verbatim(b, lines[:n])
			} else {
				n = 1
				b.WriteString(roff(lines[0]) + "\n")
			}
			lines = lines[n:]
		}
	}
}

func verbatim(b *strings.Builder, lines []string) {
	b.WriteString(".EX\n")
	for _, l := range lines {
		b.WriteString(roff(l) + "\n")
	}
	b.WriteString(".EE\n")
}

// roff escapes text, so that nothing in it is a command, and a hyphen can be copied to a
// shell.
func roff(text string) string {
	lines := strings.Split(strings.NewReplacer(`\`, `\e`, `-`, `\-`).Replace(text), "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
