package attach

import (
	"testing"
	"unsafe"
)

// bytes is the view as a slice: for tests only, see Bridge.
func (b *Bridge) bytes() []byte { return unsafe.Slice((*byte)(b.view), b.size) }

// openBridge makes a view of all of s for the time of the test.
func openBridge(t *testing.T, s *secret) *Bridge {
	t.Helper()
	b, err := OpenBridge("", s.fd, unsafe.Pointer(unsafe.SliceData(s.mem)), uint64(len(s.mem)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}
