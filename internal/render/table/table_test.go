package table

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sample has all that a table can have.
var sample = &Table{
	Name: "a <table>", Columns: []Column{{}, {Right: true}},
	Head: [][]Cell{Row("host", "one", "one", "two"), Row("backend", "anon", "secret", "secret")},
	Groups: []Group{
		{Title: "attacks", Rows: [][]Cell{
			{{Text: "scan", Link: "#scan"}, {Text: "EXPOSED", Kind: Bad, Strong: true, Value: "7"}, {Text: "blocked", Kind: Good, Value: "EFAULT", Code: true}, {Text: "skipped", Kind: Muted}},
		}},
		{Title: "thefts", Rows: [][]Cell{
			{{Text: "theft", Link: "#by-fd"}, {Text: "a|b\n<c>", More: []Term{{Text: "why"}, {Name: "source", Text: "a page", Link: "https://x/?a&b"}}}, {Text: "\x1b[31m"}, {Text: "x", Link: "javascript:y"}},
		}},
	},
	Notes: []Note{{"scan", "", "skipped: no"}, {"theft", "anon", "skipped: no"}, {"other", "anon", "skipped: no"}},
}

func check(t *testing.T, got, want string) {
	t.Helper()
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestText(t *testing.T) {
	check(t, Text{Indent: "  "}.Write(sample), `
host                   one  one             two
backend               anon  secret          secret

attacks
  scan           EXPOSED 7  blocked EFAULT  skipped

thefts
  theft (by-fd)    a|b <c>  \x1b[31m        x

scan: skipped: no

theft, other (anon): skipped: no
`)
}

// TestTextPieces writes a table that is wider than the terminal.
func TestTextPieces(t *testing.T) {
	wide := &Table{Head: [][]Cell{Row("", "first", "second", "third")}, Groups: []Group{{Rows: [][]Cell{Row("row", "1", "2", "3"), Row("gone", "", "", "4")}}}}
	check(t, Text{Width: 20}.Write(wide), `
      first  second
row   1      2

      third
row   3
gone  4
`)
	check(t, Text{Width: 1}.Write(&Table{Groups: []Group{{Rows: [][]Cell{Row("a", "b", "c")}}}}), "a  b\n\na  c\n")
}

// TestTextWraps writes sentences, in a column that comes last, and what there is
// to say beside.
func TestTextWraps(t *testing.T) {
	list := &Table{Columns: []Column{{Wide: true}, {}}, Groups: []Group{{Rows: [][]Cell{
		{{Text: "a sentence that is longer than the line is", Link: "#id"}, {Text: "holds", More: []Term{{Text: "this was seen when it was looked at"}}}},
		{{Text: "another"}, {Text: "NOT", Kind: Bad, More: []Term{{Name: "fix", Text: "a command that is longer than the line is", Command: true}}}},
	}}}}
	check(t, Text{Width: 31, More: true, Color: true}.Write(list), `
holds  a sentence that is
       longer than the line is
       (id)
       this was seen when it
       was looked at
`+"\x1b[31mNOT  \x1b[0m"+`  another
       fix: a command that is longer than the line is
`)
}

func TestMarkdown(t *testing.T) {
	check(t, sample.Markdown(), `
| host | one | one | two |
|---|---:|---|---|
| backend | anon | secret | secret |
| *attacks* |  |  |  |
| [scan](#scan) | **EXPOSED** 7 | blocked `+"`EFAULT`"+` | skipped |
| *thefts* |  |  |  |
| [theft](#by-fd) | a\|b &lt;c> | `+"\x1b"+`[31m | [x](javascript:y) |

- `+"`scan`"+`: skipped: no
- `+"`theft`"+` (anon): skipped: no
- `+"`other`"+` (anon): skipped: no
`)
}

func TestHTML(t *testing.T) {
	check(t, string(sample.HTML()), `
<div class="scroll" tabindex="0" role="region" aria-label="a &lt;table&gt;"><table>
<thead><tr><th scope="col">host</th><th scope="col" colspan="2" class="n first">one</th><th scope="col" class="first">two</th></tr>
<tr><th scope="col">backend</th><th scope="col" class="n first">anon</th><th scope="col">secret</th><th scope="col" class="first">secret</th></tr>
</thead>
<tbody>
<tr class="part"><th scope="rowgroup">attacks</th><td class="n first"></td><td></td><td class="first"></td></tr>
<tr><th scope="row">scan</th><td class="n first v bad">EXPOSED <small>7</small></td><td class="v good">blocked <small>EFAULT</small></td><td class="first v none">skipped</td></tr>
</tbody>
<tbody>
<tr class="part"><th scope="rowgroup">thefts</th><td class="n first"></td><td></td><td class="first"></td></tr>
<tr><th scope="row">theft</th><td class="n first"><details><summary>a|b
&lt;c&gt;</summary><p>why</p><p><b>source:</b> <a href="https://x/?a&amp;b" rel="noreferrer">a page</a></p></details></td><td>`+"\x1b"+`[31m</td><td class="first">x</td></tr>
</tbody>
</table></div>`)
}
