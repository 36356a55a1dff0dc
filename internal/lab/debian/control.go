package debian

import (
	"strings"
)

// A stanza is one paragraph of a Debian control file (deb822(5)), its field
// names in lower case.
type stanza map[string]string

// parseStanzas splits text into its paragraphs.
func parseStanzas(text string) []stanza {
	var (
		all  []stanza
		cur  stanza
		last string
	)
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.TrimSpace(line) == "":
			cur = nil
		case line[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			if cur != nil && last != "" {
				cur[last] += "\n" + strings.TrimSpace(line)
			}
		default:
			name, value, ok := strings.Cut(line, ":")
			if !ok {
				continue
			}
			if cur == nil {
				cur = stanza{}
				all = append(all, cur)
			}
			last = strings.ToLower(name)
			cur[last] = strings.TrimSpace(value)
		}
	}
	return all
}

// sameVersionDeps lists the packages that s depends on in exactly the version of s.
// They are the parts of a kernel that is split into several packages.
func (s stanza) sameVersionDeps() []string {
	var deps []string
	for clause := range strings.SplitSeq(s["depends"], ",") {
		name, rest, ok := strings.Cut(strings.TrimSpace(clause), " ")
		if ok && rest == "(= "+s["version"]+")" {
			deps = append(deps, name)
		}
	}
	return deps
}
