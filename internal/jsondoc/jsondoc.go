// Package jsondoc reads the JSON documents that commands of offmap print.
package jsondoc

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Read reads the only document in r into doc, a pointer. Its schema must be the
// one given; that is checked first, since another schema may have other types.
func Read(r io.Reader, schema string, doc any) error {
	dec := json.NewDecoder(r)
	var raw json.RawMessage
	switch err := dec.Decode(&raw); {
	case errors.Is(err, io.EOF):
		return errors.New("the file is empty")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the file is cut short: it ends in the middle of the document")
	case err != nil:
		return fmt.Errorf("not a JSON document: %w", err)
	}
	var head struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return fmt.Errorf("not a document of offmap's: %w", err)
	}
	if head.Schema != schema {
		return &SchemaError{Got: head.Schema, Want: schema}
	}
	if err := json.Unmarshal(raw, doc); err != nil {
		return fmt.Errorf("schema %s: %w", schema, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something after the document: a file holds one")
	}
	return nil
}

// SchemaError is a document of another command, or of another version of it.
type SchemaError struct{ Got, Want string }

func (e *SchemaError) Error() string { return fmt.Sprintf("schema %q: want %q", e.Got, e.Want) }
