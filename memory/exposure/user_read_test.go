package exposure

import (
	"testing"

	"offmap/memory"
)

func TestUserRead(t *testing.T) {
	testFindsAll(t, userRead, expect{memory.Anon: true, memory.Memfd: true, memory.Secret: true})
}
