package limits

import "testing"

// TestDirtyUnlogged goes red for a slot that isn't logged.
func TestDirtyUnlogged(t *testing.T) {
	needKVM(t)
	if o, err := checkDirty(t.Context(), 0); err == nil {
		t.Errorf("without logging: %+v", o)
	}
}
