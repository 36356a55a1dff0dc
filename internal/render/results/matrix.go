package results

import (
	"fmt"

	"offmap/internal/measure/matrix"
	"offmap/internal/render/table"
)

// Matrix is how a command ended in each of several guests.
func Matrix(doc *matrix.Document) *table.Table {
	t := &table.Table{
		Name: "Results", Columns: []table.Column{{}, {Wide: true}, {Right: true}},
		Head: [][]table.Cell{table.Row("guest", "result", "seconds")},
	}
	var rows [][]table.Cell
	for _, c := range doc.Cells {
		kind := table.Bad
		switch c.Result {
		case matrix.OK:
			kind = table.Good
		case matrix.NotRun, matrix.Stopped:
			kind = table.Muted
		}
		rows = append(rows, []table.Cell{{Text: c.Name}, {Text: c.Text(), Kind: kind}, {Text: fmt.Sprintf("%.1f", c.Duration/1000)}})
	}
	t.Groups = []table.Group{{Rows: rows}}
	return t
}
