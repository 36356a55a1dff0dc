package probe

import (
	"io"

	"offmap/internal/jsondoc"
)

// Schema is that of the JSON document that offmap doctor prints.
const Schema = "offmap/doctor/v1"

// Document is what offmap doctor prints with --json.
type Document struct {
	Schema string `json:"schema"`
	Host   Host   `json:"host"`
	Report
}

// Read reads a document of offmap doctor.
func Read(r io.Reader) (*Document, error) {
	d := &Document{}
	return d, jsondoc.Read(r, Schema, d)
}
