// Package table is a model of a table, and what writes it: Text for a terminal,
// Markdown for docs/, HTML for the page of offmap report. What to show of a
// result is decided where its Table is made, in package results, and how it
// looks in one of the three is decided here.
package table

// Table is rows of cells under a head.
type Table struct {
	Name    string // for those who can't see it
	Columns []Column
	Head    [][]Cell // lines of the head
	Groups  []Group
	// Notes are written below by Text and Markdown. In HTML the cells that they
	// are about open, and say it themselves.
	Notes []Note
}

// Column is how a column looks. The zero value is a narrow one on the left.
type Column struct {
	// Wide is a column of sentences. Text writes it last and wraps it, and there
	// can be one.
	Wide  bool
	Right bool // to be aligned to the right
}

// Group is rows that belong together. The title may be empty.
type Group struct {
	Title string
	Rows  [][]Cell
}

// Kind is what a cell says, for its colour. Colour alone never says anything.
type Kind string

// The kinds.
const (
	Plain Kind = ""
	Good  Kind = "good"
	Bad   Kind = "bad"
	Warn  Kind = "warn"
	Muted Kind = "none"
)

// Cell is one cell of a table.
type Cell struct {
	Text   string // in Markdown it may have markup
	Kind   Kind
	Strong bool   // bold in Markdown
	Value  string // behind the text: how many, or which error
	Code   bool   // the value is a name of C or the like
	// Link is where the text leads: an address, or in Markdown "#" and a
	// heading of the same page, which is a name that Text shows.
	Link string
	// More is what there is to say beside. In HTML the cell opens.
	More []Term
}

// Term is a text, with the name of what it is about if that isn't clear.
type Term struct {
	Name, Text string
	Link       string
	Command    bool // to be pasted
}

// Note is about a row of a table, or some of its columns.
type Note struct{ Row, Columns, Text string }

// Row makes a row of plain cells.
func Row(texts ...string) (row []Cell) {
	for _, t := range texts {
		row = append(row, Cell{Text: t})
	}
	return row
}

// column is how a column looks.
func (t *Table) column(i int) Column {
	if i < len(t.Columns) {
		return t.Columns[i]
	}
	return Column{}
}
