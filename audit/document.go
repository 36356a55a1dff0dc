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

// Outcome is the result of one attack on one guest.
type Outcome struct {
	Name     string  `json:"name"`
	Verdict  Verdict `json:"verdict"`
	Evidence string  `json:"evidence"`
	Errno    string  `json:"errno"`
	// Pages counts the pages of 4 KiB in which the attack found the canary.
	// Outside counts those in which a search of the host's RAM from outside the
	// host found it at that moment; it is nil where there was none.
	Pages   int     `json:"pages"`
	Outside *int    `json:"outside_pages,omitempty"`
	Owner   bool    `json:"owner"`
	Control Control `json:"control"`
}

// Control is the result of the same attack on ordinary memory.
type Control struct {
	Backend  memory.Backend `json:"backend"`
	Verdict  Verdict        `json:"verdict"`
	Evidence string         `json:"evidence"`
}

// Audited is a kind of guest RAM, and the results of the attacks on it.
type Audited struct {
	attach.Pair
	Window uint64 `json:"window_bytes,omitempty"`
	// Planted is in how many pages of 4 KiB a guest planted its canary.
	Planted int       `json:"planted_pages"`
	Avenues []Outcome `json:"avenues"`
}

// DirectMap says how the kernel maps its RAM: bytes by page size, 4k, 2m and 1g.
type DirectMap map[string]uint64

// ReadDirectMap reads the figures of /proc/meminfo.
func ReadDirectMap() (DirectMap, error) {
	info, err := memory.ReadMeminfo()
	small, large, giant := info.DirectMap()
	return DirectMap{"4k": small, "2m": large, "1g": giant}, err
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
	if d.Column(d.Pair) == nil {
		return nil, fmt.Errorf("the matrix has no column for %s, which the audit was for", d.Pair)
	}
	return d, nil
}

// Column returns the results for a backend with an attach, nil if it has none.
func (d *Document) Column(p attach.Pair) *Audited {
	i := slices.IndexFunc(d.Matrix, func(c Audited) bool { return c.Pair == p })
	if i < 0 {
		return nil
	}
	return &d.Matrix[i]
}

// Avenue returns the result of the avenue of that name, nil if it wasn't tried.
func (c *Audited) Avenue(name string) *Outcome {
	i := slices.IndexFunc(c.Avenues, func(o Outcome) bool { return o.Name == name })
	if i < 0 {
		return nil
	}
	return &c.Avenues[i]
}
