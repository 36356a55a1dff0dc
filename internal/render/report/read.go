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
	"offmap/internal/measure/limits"
	"offmap/internal/measure/probe"
	"offmap/memory/attach"
)

// Source is a file of results. One of the documents is set.
type Source struct {
	File string // its name, for people
	Name string // what the page calls it: its host, and its file where that isn't enough
	Host bench.Host
	// place is the host's part of Name, which several sources may share.
	place string

	Bench  *bench.Document
	Audit  *audit.Document
	Limits *limits.Document
	Run    *Run
	Doctor *Doctor
	Trace  *exposuremap.Trace
}

// Run is the document of offmap run.
type Run struct {
	attach.Pair
	Memory      uint64   `json:"memory_bytes"`
	Populated   uint64   `json:"populated_bytes"`
	Exposed     uint64   `json:"exposed_bytes"`
	ExposedPeak uint64   `json:"exposed_bytes_peak"`
	Window      uint64   `json:"window_bytes"`
	ToUserland  *float64 `json:"to_userland_ms"`
	Faults      *struct {
		Count uint64  `json:"count"`
		P50   float64 `json:"p50_us"`
		P99   float64 `json:"p99_us"`
	} `json:"faults"`
	Exit struct {
		Reason string `json:"reason"`
		Code   int    `json:"code"`
	} `json:"exit"`
}

// Doctor is the document of offmap doctor.
type Doctor struct {
	Backends []probe.Trial `json:"backends"`
}

// Bounds of what is read. They are far beyond what offmap writes, and keep a
// page of hostile documents from growing faster than these do.
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
	"offmap/run/v1":    readRun,
	"offmap/doctor/v1": readDoctor,
}

// ErrSchema is wrapped where a document is of no kind that a report knows.
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

// jsonError says what is meant where a document ends too soon.
func jsonError(err error) error {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); errors.Is(err, io.ErrUnexpectedEOF) ||
		ok && strings.Contains(syntax.Error(), "unexpected end") {
		return fmt.Errorf("cut short: %w", err)
	}
	return err
}

// decode reads one document with its host.
func decode[T any](s *Source, data []byte) (*T, error) {
	var doc struct {
		Host bench.Host `json:"host"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, err
	}
	s.Host = doc.Host
	t := new(T)
	return t, json.Unmarshal(data, t)
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
	for _, c := range s.Audit.Matrix {
		if n := len(c.Avenues); n > maxAvenues {
			return fmt.Errorf("%s: %d avenues, and a report shows up to %d", c.Pair, n, maxAvenues)
		}
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
	s.Run, err = decode[Run](s, data)
	return err
}

func readDoctor(s *Source, data []byte) (err error) {
	if s.Doctor, err = decode[Doctor](s, data); err != nil {
		return err
	}
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
