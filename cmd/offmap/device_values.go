package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"offmap/guest/protocol"
)

// diskValue is a value of --disk: FILE[,ro][,overlay][,cache=buffered|none].
type diskValue struct {
	file     string
	readOnly bool
	overlay  bool // the guest's writes go to a temporary file
	direct   bool // cache=none
}

// diskOptions lists the options of --disk for errors.
const diskOptions = "ro, overlay, cache=buffered and cache=none"

func parseDisk(s string) (d diskValue, err error) {
	var options []string
	if d.file, options, err = splitValue(s); err != nil {
		return d, err
	}
	if d.file == "" {
		return d, errors.New("the name of the image is missing")
	}
	cache := ""
	for _, o := range options {
		switch {
		case o == "ro" && !d.readOnly:
			d.readOnly = true
		case o == "overlay" && !d.overlay:
			d.overlay = true
		case (o == "cache=buffered" || o == "cache=none") && cache == "":
			cache = o
			d.direct = o == "cache=none"
		case o == "ro", o == "overlay", o == cache:
			return d, fmt.Errorf("option %q twice", o)
		case cache != "" && strings.HasPrefix(o, "cache="):
			return d, fmt.Errorf("options %q and %q exclude each other", cache, o)
		default:
			return d, fmt.Errorf("unknown option %q: have %s%s", o, diskOptions, doubling)
		}
	}
	if d.readOnly && d.overlay {
		return d, errors.New("options ro and overlay exclude each other: with ro the guest can't write, with overlay its writes are dropped at the end")
	}
	return d, nil
}

// shareValue is a value of --share: DIR[=TAG][,rw].
type shareValue struct {
	dir      string
	tag      string // empty: named after the directory
	writable bool
	flag     string // that names the directory, if it isn't --share
}

func parseShare(s string) (v shareValue, err error) {
	var options []string
	if v.dir, options, err = splitValue(s); err != nil {
		return v, err
	}
	// A tag has no slash. So "a=b/" is a directory, and "a=b" is a directory
	// with a tag.
	if i := strings.LastIndexByte(v.dir, '='); i >= 0 && !strings.Contains(v.dir[i:], "/") {
		v.dir, v.tag = v.dir[:i], v.dir[i+1:]
		if err := protocol.CheckTag(v.tag); err != nil {
			return v, fmt.Errorf("%w. If = is part of the directory's name, end the name with a slash", err)
		}
	}
	if v.dir == "" {
		return v, errors.New("the name of the directory is missing")
	}
	for _, o := range options {
		switch {
		case o == "rw" && !v.writable:
			v.writable = true
		case o == "rw":
			return v, fmt.Errorf("option %q twice", o)
		default:
			return v, fmt.Errorf("unknown option %q: have rw; without it the guest can only read%s", o, doubling)
		}
	}
	return v, nil
}

// doubling ends the errors about options that may be part of a name.
const doubling = ". Write a comma in a name twice"

// splitValue splits a flag's value at its commas into a name and options. A comma in
// the name or in an option is written twice.
func splitValue(s string) (name string, options []string, err error) {
	var fields []string
	var field strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != ',':
			field.WriteByte(s[i])
		case i+1 < len(s) && s[i+1] == ',':
			field.WriteByte(',')
			i++
		default:
			fields = append(fields, field.String())
			field.Reset()
		}
	}
	fields = append(fields, field.String())
	for _, f := range fields {
		if strings.IndexByte(f, 0) >= 0 {
			return "", nil, errors.New("a zero byte")
		}
	}
	for _, o := range fields[1:] {
		if o == "" {
			return "", nil, errors.New("an option is missing after a comma" + doubling)
		}
	}
	return fields[0], fields[1:], nil
}

// name returns the share's tag, or else the base name of its directory as a tag.
func (v shareValue) name() string {
	if v.tag != "" {
		return v.tag
	}
	dir, err := filepath.Abs(v.dir)
	if err != nil { // the working directory is gone
		dir = v.dir
	}
	return tagOf(filepath.Base(dir))
}

// tagOf returns a name as a tag. What can't be part of a tag becomes a hyphen, or is
// left out at the start.
func tagOf(name string) string {
	tag := strings.Map(func(r rune) rune {
		if protocol.CheckTag("x"+string(r)) != nil {
			return '-'
		}
		return r
	}, name)
	tag = strings.TrimLeft(tag, ".-")
	if tag == "" {
		return "share"
	}
	return tag[:min(len(tag), protocol.MaxTag)]
}
