package audit

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDirectIO(t *testing.T) {
	d, err := openDirect()
	if err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	d.close()
	testAttack(t, directIO)
}

// A file system that copies, O_DIRECT or not, is no place for the attack.
func TestDirectIOCopies(t *testing.T) {
	const dir = "/dev/shm"
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Type != unix.TMPFS_MAGIC {
		t.Skipf("SKIPPED: no tmpfs at %s: %v", dir, err)
	}
	d, err := directIn(dir)
	if err == nil {
		d.close()
		t.Fatal("tmpfs passes for a file system with direct I/O")
	}
	// Before 6.6 it doesn't take O_DIRECT.
	if !strings.Contains(err.Error(), "it copies") && !strings.Contains(err.Error(), "invalid argument") {
		t.Error(err)
	}
	left, err := os.ReadDir(dir)
	for _, e := range left {
		if strings.HasPrefix(e.Name(), "offmap-audit-") {
			t.Errorf("%s is left in %s (%v)", e.Name(), dir, err)
		}
	}
}
