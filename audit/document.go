package audit

import (
	"fmt"
	"io"
	"slices"

	"offmap/internal/jsondoc"
	"offmap/internal/measure/probe"
	"offmap/memory"
	"offmap/memory/attach"
)

// Schema is that of the JSON document that offmap audit prints.
const Schema = "offmap/audit/v1"

// Document is an audit as offmap audit prints it. Backend, Attach and Avenues
// are those of the guest that was asked for; Matrix has the others as well,
// controls first.
type Document struct {
	Schema string     `json:"schema"`
	Host   probe.Host `json:"host"`
	attach.Pair
	Memory    uint64    `json:"memory_bytes"` // RAM of each guest
	Avenues   []Outcome `json:"avenues"`
	Matrix    []Audited `json:"matrix"`
	DirectMap struct {
		Before DirectMap `json:"before"`
		During DirectMap `json:"during"`
		After  DirectMap `json:"after"`
	} `json:"direct_map"`
}

// Document returns the result as a document. Memory is the RAM of each guest in
// bytes, asked the index in r.Columns of the guest that was asked for.
func (r Result) Document(memory uint64, asked int) *Document {
	c := r.Columns[asked]
	d := &Document{
		Schema: Schema, Host: probe.ThisHost(), Memory: memory,
		Pair: c.Pair, Avenues: c.Avenues, Matrix: r.Columns,
	}
	d.DirectMap.Before, d.DirectMap.During, d.DirectMap.After = r.Before, r.During, r.After
	return d
}

// Read reads a document of offmap audit. An error says what no audit can have
// written.
func Read(r io.Reader) (*Document, error) {
	d := &Document{}
	if err := jsondoc.Read(r, Schema, d); err != nil {
		return nil, err
	}
	if d.Column(d.Backend, d.Attach) == nil {
		return nil, fmt.Errorf("the matrix has no column for %s, which the audit was for", d.Pair)
	}
	return d, nil
}

// Column returns the attacks on a backend with an attach, nil if there were none.
func (d *Document) Column(b memory.Backend, m attach.Method) *Audited {
	i := slices.IndexFunc(d.Matrix, func(c Audited) bool { return c.Pair == attach.Pair{Backend: b, Attach: m} })
	if i < 0 {
		return nil
	}
	return &d.Matrix[i]
}

// Avenue returns what came of an avenue by its name, nil if it wasn't tried.
func (c *Audited) Avenue(name string) *Outcome {
	i := slices.IndexFunc(c.Avenues, func(o Outcome) bool { return o.Name == name })
	if i < 0 {
		return nil
	}
	return &c.Avenues[i]
}
