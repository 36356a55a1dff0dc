package virtio_test

import (
	"encoding/json"
	"testing"

	"offmap/vmm/virtio"
)

func TestCounters(t *testing.T) {
	c := virtio.NewCounters("read", "write", "flush")
	c.Count(0, 4096, 0)
	c.Count(1, 0, 512)
	c.Count(0, 1, 0)
	got, err := json.Marshal(c.Stats())
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"read_bytes":4097,"written_bytes":512,"requests":{"read":2,"write":1}}`; string(got) != want {
		t.Errorf("%s; want %s", got, want)
	}
}
