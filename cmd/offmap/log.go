package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"offmap/internal/process/terminal"
)

// textLog is the log as text: the program's name, the message and its attributes. While
// the terminal is raw, a line also ends with a carriage return.
type textLog struct {
	w     io.Writer
	level slog.Level
	attrs []slog.Attr
}

func (l *textLog) Enabled(_ context.Context, level slog.Level) bool { return level >= l.level }

func (l *textLog) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString("offmap: ")
	if r.Level >= slog.LevelWarn {
		b.WriteString(strings.ToLower(r.Level.String()) + ": ")
	}
	b.WriteString(r.Message)
	add := func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		return true
	}
	for _, a := range l.attrs {
		add(a)
	}
	r.Attrs(add)
	b.WriteByte('\n')
	text := terminal.Printable(b.String())
	if terminal.IsRaw() {
		text = strings.ReplaceAll(text, "\n", "\r\n")
	}
	_, err := io.WriteString(l.w, text)
	return err
}

func (l *textLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *l
	c.attrs = append(c.attrs[:len(c.attrs):len(c.attrs)], attrs...)
	return &c
}

// WithGroup ignores groups: no message has two attributes with the same name.
func (l *textLog) WithGroup(string) slog.Handler { return l }
