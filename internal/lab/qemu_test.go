package lab

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckVersion(t *testing.T) {
	for _, tt := range []struct {
		out, want, err string
	}{
		{"QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\nCopyright (c) 2003-2025\n",
			"10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)", ""},
		{"QEMU emulator version 8.2.0\n", "8.2.0", ""},
		{"QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\n", "", "bookworm-backports"},
		{"something else\n", "", `"something else"`},
		{"", "", "version"},
	} {
		got, err := checkVersion(tt.out)
		if tt.err != "" {
			if !errors.Is(err, ErrQEMU) || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("checkVersion(%q): error %v, want ErrQEMU with %q", tt.out, err, tt.err)
			}
			continue
		}
		if err != nil || got != tt.want {
			t.Errorf("checkVersion(%q) = %q, %v, want %q", tt.out, got, err, tt.want)
		}
	}
}

func TestNoQEMU(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if err := Check(t.Context()); !errors.Is(err, ErrQEMU) || !strings.Contains(err.Error(), "apt install") {
		t.Errorf("error %v, want ErrQEMU and the fix", err)
	}
}

func TestCommandLine(t *testing.T) {
	got := commandLine(&Config{Append: "memmap=1G$4G quiet", Kernel: Kernel{}})
	// What the user adds comes after ours, so that it wins, and so that what of it the
	// kernel doesn't know comes after init's command.
	if !strings.HasSuffix(got, " memmap=1G$4G quiet") || !strings.Contains(got, " rdinit=/init lab-init ") {
		t.Errorf("command line %q", got)
	}
	for _, word := range []string{"secretmem.enable=1", "oops=panic", "console=ttyS0"} {
		if !strings.Contains(" "+got+" ", " "+word+" ") {
			t.Errorf("command line %q is without %s", got, word)
		}
	}
	if got := commandLine(&Config{Plain: true}); strings.Contains(got, "secretmem") {
		t.Errorf("a plain command line %q", got)
	}
}
