package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"offmap/internal/jsondoc"
	"offmap/memory"
	"offmap/memory/attach"
)

func TestDocument(t *testing.T) {
	r := Result{Columns: []Audited{
		{Pair: attach.Pair{Backend: memory.Anon, Attach: attach.Direct}, Planted: 7, Avenues: []Outcome{{Name: "ksm", Verdict: Exposed, Pages: 7}}},
		{Pair: attach.Pair{Backend: memory.Secret, Attach: attach.ViaBridge}, Planted: 7, Avenues: []Outcome{{Name: "ksm", Verdict: Blocked, Errno: "EINVAL"}}},
	}, During: DirectMap{"4k": 1}}
	want := r.Document(32<<20, 1)
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Read(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read\n%+v\nof\n%+v", got, want)
	}
	if o := got.Column(attach.Pair{Backend: memory.Secret, Attach: attach.ViaBridge}).Avenue("ksm"); o == nil || o.Verdict != Blocked {
		t.Errorf("the avenue is %+v", o)
	}
	if got.Column(attach.Pair{Backend: memory.Secret, Attach: attach.ViaWindow}) != nil || got.Matrix[0].Avenue("fork") != nil {
		t.Error("it has what it was not given")
	}

	if _, err := Read(strings.NewReader(strings.Replace(string(text), `"attach":"bridge"`, `"attach":"window"`, 1))); err == nil {
		t.Error("an audit of a guest that isn't in its matrix was read")
	}
	for _, schema := range []string{"offmap/audit/v2", "offmap/limits/v1"} {
		_, err := Read(strings.NewReader(strings.Replace(string(text), Schema, schema, 1)))
		if e, ok := errors.AsType[*jsondoc.SchemaError](err); !ok || e.Got != schema {
			t.Errorf("schema %s: %v", schema, err)
		}
	}
}
