package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"offmap/audit"
	"offmap/internal/measure/bench"
	"offmap/internal/measure/exposuremap"
	"offmap/internal/measure/guestrun"
	"offmap/internal/measure/limits"
	"offmap/internal/measure/probe"
)

// Source is a file of results. One of the documents is set.
type Source struct {
	File string // its name, for people
	Name string // on the page: its host, and its file where several have that host
	Host bench.Host
	// place is the host's part of Name, which several sources may share.
	place string

	Bench  *bench.Document
	Audit  *audit.Document
	Limits *limits.Document
	Run    *guestrun.Document
	Doctor *probe.Document
	Trace  *exposuremap.Trace
}

// Bounds of a document. offmap writes far less. They keep the page of a hostile
// document from growing faster than the document.
const (
	maxFile    = 64 << 20 // bytes
	maxResults = 20_000   // of a benchmark
	maxColumns = 64       // of an audit
	maxAvenues = 256
	maxLimits  = 1024
)

// readers read a kind of document, by its schema.
var readers = map[string]func(s *Source, data []byte) error{
	bench.Schema:       readBench,
	exposuremap.Schema: readTrace,
	audit.Schema:       readAudit,
	limits.Schema:      readLimits,
	guestrun.Schema:    readRun,
	probe.Schema:       readDoctor,
}

// ErrSchema says that Read doesn't know a document's schema.
var ErrSchema = errors.New("not a file of results")

// Read reads a document of any kind. Errors begin with the file's name.
func Read(file string, r io.Reader) (*Source, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("larger than %d MiB, which no command of offmap writes", maxFile>>20)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var head struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("%s: %w", file, jsonError(err))
	}
	read, ok := readers[head.Schema]
	if !ok {
		return nil, fmt.Errorf("%s: %w: its schema is %q, and report reads %s", file, ErrSchema,
			cut(head.Schema, 80), strings.Join(slices.Sorted(maps.Keys(readers)), ", "))
	}
	s := &Source{File: file}
	if err := read(s, data); err != nil {
		return nil, fmt.Errorf("%s: %s: %w", file, head.Schema, jsonError(err))
	}
	return s, nil
}

// jsonError adds to an error of package json that the document ends too soon.
func jsonError(err error) error {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); errors.Is(err, io.ErrUnexpectedEOF) ||
		ok && strings.Contains(syntax.Error(), "unexpected end") {
		return fmt.Errorf("cut short: %w", err)
	}
	return err
}

func readBench(s *Source, data []byte) (err error) {
	if s.Bench, err = bench.Read(bytes.NewReader(data)); err != nil {
		return err
	}
	s.Host = s.Bench.Host
	if n := len(s.Bench.Results); n > maxResults {
		return fmt.Errorf("%d results, and a report shows up to %d", n, maxResults)
	}
	return nil
}

func readTrace(s *Source, data []byte) (err error) {
	if s.Trace, err = exposuremap.Read(bytes.NewReader(data)); err == nil {
		s.Host.Host = s.Trace.Host
	}
	return err
}

func readAudit(s *Source, data []byte) (err error) {
	if s.Audit, err = audit.Read(bytes.NewReader(data)); err != nil {
		return err
	}
	s.Host.Host = s.Audit.Host
	if n := len(s.Audit.Matrix); n > maxColumns {
		return fmt.Errorf("a matrix of %d columns, and a report shows up to %d", n, maxColumns)
	}
	names := map[string]bool{}
	for _, c := range s.Audit.Matrix {
		for _, a := range c.Avenues {
			names[a.Name] = true
		}
	}
	if n := len(names); n > maxAvenues {
		return fmt.Errorf("%d avenues, and a report shows up to %d", n, maxAvenues)
	}
	return nil
}

func readLimits(s *Source, data []byte) (err error) {
	if s.Limits, err = limits.Read(bytes.NewReader(data)); err != nil {
		return err
	}
	s.Host.Host = s.Limits.Host
	if n := len(s.Limits.Limits); n > maxLimits {
		return fmt.Errorf("%d limits, and a report shows up to %d", n, maxLimits)
	}
	return nil
}

func readRun(s *Source, data []byte) (err error) {
	if s.Run, err = guestrun.Read(bytes.NewReader(data)); err == nil {
		s.Host.Host = s.Run.Host
	}
	return err
}

func readDoctor(s *Source, data []byte) (err error) {
	if s.Doctor, err = probe.Read(bytes.NewReader(data)); err != nil {
		return err
	}
	s.Host.Host = s.Doctor.Host
	if n := len(s.Doctor.Backends); n > maxColumns {
		return fmt.Errorf("%d backends, and a report shows up to %d", n, maxColumns)
	}
	return nil
}

// cut shortens a text to n characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
