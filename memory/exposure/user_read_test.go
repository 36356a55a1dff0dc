package exposure

import "testing"

func TestUserRead(t *testing.T) {
	testFindsAll(t, userRead, toOwner)
}
