package audit

import (
	"encoding/binary"
	"testing"
)

// TestUserRequest: what this side decodes is as long as what the program has.
func TestUserRequest(t *testing.T) {
	if n := binary.Size(userRequest{}); n != requestResults+4*userPages {
		t.Errorf("a request of %d bytes, want %d", n, requestResults+4*userPages)
	}
}

func TestUserRead(t *testing.T) {
	testFindsAll(t, userRead, toOwner)
}
