package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Read reads a document of offmap bench. What a run can't have written is an
// error that names it.
func Read(r io.Reader) (*Document, error) {
	dec := json.NewDecoder(r)
	var raw json.RawMessage
	switch err := dec.Decode(&raw); {
	case errors.Is(err, io.EOF):
		return nil, errors.New("the file is empty")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, errors.New("the file is cut short: it ends in the middle of the document")
	case err != nil:
		return nil, fmt.Errorf("not a JSON document: %w", err)
	}
	// The schema comes first, since another may have other types.
	var head struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, fmt.Errorf("not a document of offmap's: %w", err)
	}
	if head.Schema != Schema {
		return nil, fmt.Errorf("schema %q: want %q, as `offmap bench --json` writes it", head.Schema, Schema)
	}
	d := &Document{}
	if err := json.Unmarshal(raw, d); err != nil {
		return nil, fmt.Errorf("schema %s: %w", Schema, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is something after the document: a file holds one")
	}
	if err := d.check(); err != nil {
		return nil, err
	}
	return d, nil
}

// check holds what every document of a run keeps to.
func (d *Document) check() error {
	if d.Host.Kernel == "" || d.Host.Accel == "" {
		return errors.New("host: no kernel or no accel: nothing can be compared with that")
	}
	type key struct {
		name string
		Subject
	}
	seen := map[key]bool{}
	for i, r := range d.Results {
		k := key{r.Name, r.Subject()}
		err := r.check()
		switch {
		case err != nil:
		case r.Accel != d.Host.Accel:
			err = fmt.Errorf("accel %q on a host of accel %q", r.Accel, d.Host.Accel)
		case seen[k]:
			err = errors.New("it is there twice")
		}
		if err != nil {
			return fmt.Errorf("result %d (%s of %s): %w", i, r.Name, r.Subject(), err)
		}
		seen[k] = true
	}
	return nil
}

func (r *Result) check() error {
	if r.Name == "" || r.Unit == "" || r.Subject() == (Subject{}) {
		return errors.New("no name, no unit or no subject")
	}
	switch r.Status {
	case Refused, Failed:
		if len(r.Values) != 0 {
			return fmt.Errorf("%s, and %d values", r.Status, len(r.Values))
		}
		return nil
	case Measured, Partial:
		if len(r.Values) == 0 {
			return fmt.Errorf("%s, and no values", r.Status)
		}
	default:
		return fmt.Errorf("unknown status %q", r.Status)
	}
	least, most := slices.Min(r.Values), slices.Max(r.Values)
	if !(least <= r.Low && r.Low <= r.Median && r.Median <= r.High && r.High <= most) {
		return fmt.Errorf("median %v and interval %v to %v aren't those of values from %v to %v", r.Median, r.Low, r.High, least, most)
	}
	if r.Confidence < 0 || r.Confidence > 1 {
		return fmt.Errorf("confidence %v is no share", r.Confidence)
	}
	for _, c := range []*Comparison{r.Against, r.AgainstBaseline} {
		if c == nil {
			continue
		}
		if !slices.Contains([]string{Better, Worse, NoDifference, TooFew}, c.Verdict) || c.P < 0 || c.P > 1 {
			return fmt.Errorf("against %s: p = %v, verdict %q", c.Subject, c.P, c.Verdict)
		}
	}
	return nil
}
