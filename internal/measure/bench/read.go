package bench

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"offmap/internal/jsondoc"
)

// Read reads a document of offmap bench. It returns an error for a document that no
// run can have written.
func Read(r io.Reader) (*Document, error) {
	d := &Document{}
	if err := jsondoc.Read(r, Schema, d); err != nil {
		return nil, err
	}
	if err := d.check(); err != nil {
		return nil, err
	}
	return d, nil
}

// check returns an error if a document isn't consistent.
func (d *Document) check() error {
	if d.Host.Kernel == "" || d.Host.Accel == "" {
		return errors.New("host: no kernel or no accel")
	}
	type key struct {
		name string
		Subject
	}
	seen := map[key]bool{}
	for i, r := range d.Results {
		k := key{r.Name, r.Subject}
		err := r.check()
		switch {
		case err != nil:
		case r.Accel != d.Host.Accel:
			err = fmt.Errorf("accel %q on a host of accel %q", r.Accel, d.Host.Accel)
		case seen[k]:
			err = errors.New("duplicate result")
		}
		if err != nil {
			return fmt.Errorf("result %d (%s of %s): %w", i, r.Name, r.Subject, err)
		}
		seen[k] = true
	}
	return nil
}

func (r *Result) check() error {
	if r.Name == "" || r.Unit == "" || r.Subject == (Subject{}) {
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
		return fmt.Errorf("median %v and interval %v to %v don't fit values from %v to %v", r.Median, r.Low, r.High, least, most)
	}
	if r.Confidence < 0 || r.Confidence > 1 {
		return fmt.Errorf("confidence %v is not between 0 and 1", r.Confidence)
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
