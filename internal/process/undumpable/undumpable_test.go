package undumpable

import (
	"bytes"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Nobody can read a program, or change it before it is executed.
func TestProgram(t *testing.T) {
	f, err := Program("test", bytes.NewReader([]byte("\x7fELF")))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{0xcc}, 0); err == nil {
		t.Error("written to")
	}
	if err := f.Truncate(0); err == nil {
		t.Error("truncated")
	}
	info, err := f.Stat()
	if err != nil || info.Mode() != 0o111 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// The thread that ran f gets its capabilities back, and no other thread loses any.
func TestWithoutOverride(t *testing.T) {
	effective := func() [2]unix.CapUserData {
		t.Helper()
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var caps [2]unix.CapUserData
		if err := unix.Capget(&header, &caps[0]); err != nil {
			t.Fatal(err)
		}
		return caps
	}
	before := effective()
	const override = 1 << unix.CAP_DAC_OVERRIDE
	if before[0].Effective&override == 0 {
		t.Skip("SKIPPED: needs root, which has CAP_DAC_OVERRIDE")
	}
	unreadable := t.TempDir() + "/file"
	if err := os.WriteFile(unreadable, nil, 0o111); err != nil {
		t.Fatal(err)
	}
	err := WithoutOverride(func() error {
		within := effective()
		if within[0].Effective != before[0].Effective&^(override|1<<unix.CAP_DAC_READ_SEARCH) || within[0].Permitted != before[0].Permitted {
			t.Errorf("within: %x, was %x", within, before)
		}
		_, err := os.ReadFile(unreadable)
		return err
	})
	if !os.IsPermission(err) {
		t.Errorf("reading a file of mode 0111: %v", err)
	}
	if after := effective(); after != before {
		t.Errorf("after: %x, was %x", after, before)
	}
}
