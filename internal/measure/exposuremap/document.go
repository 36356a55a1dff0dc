package exposuremap

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
)

// maxDocument is the largest document that Read takes, in bytes. Write writes up
// to 6 MiB: MaxSamples maps that don't compress.
const maxDocument = 16 << 20

// document is a Trace with packed maps.
type document struct {
	Trace
	Samples []packedSample `json:"samples"`
}

type packedSample struct {
	Sample
	Map string `json:"map"`
}

// Write writes the trace as a JSON document, a sample a line.
func (t *Trace) Write(w io.Writer) error {
	d := document{Trace: *t}
	for _, s := range t.Samples {
		d.Samples = append(d.Samples, packedSample{s, pack(s.Map)})
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	if err := e.Encode(d); err != nil {
		return fmt.Errorf("exposure trace: %w", err)
	}
	return nil
}

// Read reads a trace that Write wrote. The document may be hostile: Read returns
// an error unless it is complete and consistent, and uses a bounded amount of
// memory.
func Read(r io.Reader) (*Trace, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("exposure trace: %w", err)
	case len(text) > maxDocument:
		return nil, fmt.Errorf("exposure trace: more than %d MiB, which none has", maxDocument>>20)
	}
	var d document
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("exposure trace: %w", err)
	}
	t, err := d.unpack()
	if err != nil {
		return nil, fmt.Errorf("exposure trace: %w", err)
	}
	return t, nil
}

// unpack checks the document and makes its trace. It unpacks a map, which can be
// far larger than its text, after the other checks of its sample.
func (d *document) unpack() (*Trace, error) {
	t := &d.Trace
	if err := t.checkHead(); err != nil {
		return nil, err
	}
	if n := len(d.Samples); n < 1 || n > MaxSamples {
		return nil, fmt.Errorf("%d samples: a trace has 1 to %d", n, MaxSamples)
	}
	var last Sample
	for i, p := range d.Samples {
		s := p.Sample
		err := t.checkSample(last, s)
		if err == nil {
			s.Map, err = unpack(p.Map, int(t.cells()))
		}
		if err == nil {
			err = checkMap(s)
		}
		if err != nil {
			return nil, fmt.Errorf("sample %d: %w", i, err)
		}
		t.Samples = append(t.Samples, s)
		last = s
	}
	return t, nil
}

// pack is the text of a map.
func pack(cells []Cell) string {
	raw := make([]byte, len(cells))
	for i, c := range cells {
		raw[i] = byte(c)
	}
	var b bytes.Buffer // whose Write doesn't fail
	z, _ := flate.NewWriter(&b, flate.DefaultCompression)
	z.Write(raw)
	z.Close()
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

// unpack reads a map, which must have n cells.
func unpack(text string, n int) ([]Cell, error) {
	z, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("map: %w", err)
	}
	raw, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(z)), int64(n)+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("map: %w", err)
	case len(raw) != n:
		return nil, fmt.Errorf("map: not of %d cells", n)
	}
	cells := make([]Cell, n)
	for i, c := range raw {
		if cells[i] = Cell(c); !cells[i].valid() {
			return nil, fmt.Errorf("map: cell %d is 0x%02x, whose shares are more than the cell", i, c)
		}
	}
	return cells, nil
}
