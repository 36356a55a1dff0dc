package agent

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFrames(t *testing.T) {
	var stream bytes.Buffer
	c := NewConn(&stream)
	long := bytes.Repeat([]byte("0123456789abcdef"), MaxPayload/16+1)
	for _, send := range []func() error{
		func() error { return c.Send(Ready, nil) },
		func() error { return c.Send(Stdout, long) },
		func() error { return c.SendJSON(Exit, Report{Code: 7, LostLog: 2}) },
	} {
		if err := send(); err != nil {
			t.Fatal(err)
		}
	}
	type frame struct {
		Kind Kind
		Len  int
	}
	var (
		got    []frame
		stdout []byte
	)
	for {
		k, payload, err := c.Receive()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, frame{k, len(payload)})
		if k == Stdout {
			stdout = append(stdout, payload...)
		}
	}
	want := []frame{{Ready, 0}, {Stdout, MaxPayload}, {Stdout, 16}, {Exit, len(`{"code":7,"lost_log":2}`)}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if !bytes.Equal(stdout, long) {
		t.Errorf("%d bytes of output arrived changed", len(long))
	}
}

func TestReceiveBad(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"header cut short", "\x01\x00", "unexpected EOF"},
		{"payload cut short", "\x01\x05\x00\x00\x00abc", "cut short"},
		{"too long", "\x01\x01\x00\x01\x00", "at most"},
	} {
		_, _, err := NewConn(struct {
			io.Reader
			io.Writer
		}{strings.NewReader(tt.in), io.Discard}).Receive()
		if err == nil || errors.Is(err, io.EOF) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one with %q", tt.name, err, tt.want)
		}
	}
}

func FuzzReceive(f *testing.F) {
	f.Add([]byte("\x22\x03\x00\x00\x00abc\x23\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		c := NewConn(struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(in), io.Discard})
		for {
			_, payload, err := c.Receive()
			if err != nil {
				return
			}
			if len(payload) > MaxPayload {
				t.Fatalf("payload of %d bytes", len(payload))
			}
		}
	})
}
