package limits

import (
	"os"
	"testing"
)

// TestMain makes the test binary what the checks' children run.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == Command {
		os.Exit(ChildMain(os.Args[2:]))
	}
	os.Exit(m.Run())
}
