package limits

import (
	"io"

	"offmap/internal/jsondoc"
	"offmap/internal/measure/probe"
)

// Schema is that of the JSON document that offmap limits prints.
const Schema = "offmap/limits/v1"

// Document is what offmap limits prints.
type Document struct {
	Schema string     `json:"schema"`
	Host   probe.Host `json:"host"`
	Limits []Result   `json:"limits"`
}

// Result is a limit and the result of its check. Holds is nil where the check
// couldn't be made, and Observed then says why.
type Result struct {
	ID       string `json:"id"`
	Title    string `json:"title"`
	Source   string `json:"source"`
	Link     string `json:"link"`
	How      string `json:"how"`
	Expected string `json:"expected"`
	Observed string `json:"observed"`
	Holds    *bool  `json:"holds"`
	Means    string `json:"means"`
}

// Read reads a document of offmap limits.
func Read(r io.Reader) (*Document, error) {
	d := &Document{}
	return d, jsondoc.Read(r, Schema, d)
}
