package main

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"offmap/internal/measure/guestrun"
	"offmap/internal/process/exitcode"
)

// offmap runs offmap without a terminal.
func offmap(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{"offmap"}, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// The console shows a guest's text as it is. In its own messages offmap quotes the text,
// so that no terminal acts on it.
func TestGuestsWordsAreQuoted(t *testing.T) {
	needKVM(t)
	const words = "Kernel panic - not syncing: \x1b[31mred\x07 \xc2\x9b0m \xff end"
	kernel := testKernel(t, say(words+"\r\n"), dawdle, crash)
	stdout, stderr, code := offmap(t, "run", "-m", "32", "--backend", "memfd", "-k", kernel)
	if code != exitcode.Panic || !strings.Contains(stdout, words) {
		t.Errorf("exit code %d, console %q", code, stdout)
	}
	if want := `the guest's kernel panicked: "Kernel panic - not syncing: \x1b[31mred\a \u009b0m `; !strings.Contains(stderr, want) {
		t.Errorf("stderr %q, want %q", stderr, want)
	}
	clean := func(s string) bool { return !strings.ContainsAny(s, "\x1b\x07\u009b") }
	if !clean(stderr) {
		t.Errorf("stderr has what a terminal acts on: %q", stderr)
	}
	stdout, _, _ = offmap(t, "run", "-q", "-m", "32", "--backend", "memfd", "-k", kernel, "--json")
	if doc, err := guestrun.Read(strings.NewReader(stdout)); err != nil || !clean(stdout) || !strings.Contains(doc.Exit.Detail, "\x1b[31mred\x07 \u009b0m") {
		t.Errorf("%v, JSON %q", err, stdout)
	}
}

// A guest may end with any exit code. offmap says that the code is the guest's, even
// with --quiet.
func TestGuestsOwnExitCode(t *testing.T) {
	needKVM(t)
	for _, code := range []int{0, 1, 2, 4, 124, 143} {
		_, stderr, got := offmap(t, "run", "-q", "-m", "32", "--backend", "memfd", "-k", testKernel(t, exitWithCode(byte(code)), hang))
		want := ""
		if code != 0 {
			want = "offmap: " + guestCode(code).Error() + "\n"
		}
		if got != code || stderr != want {
			t.Errorf("code %d: %d, %q, want %q", code, got, stderr, want)
		}
	}
}

// Children of this program don't inherit its signal dispositions.
func TestChildrensSignals(t *testing.T) {
	_, uncatch := withSignals(t.Context())
	defer uncatch()
	out, err := exec.Command("grep", "SigIgn", "/proc/self/status").Output()
	if err != nil {
		t.Fatal(err)
	}
	if ignored := string(bytes.TrimSpace(out[len("SigIgn:"):])); ignored != "0000000000000000" {
		t.Errorf("a child ignores the signals %s", ignored)
	}
}

func TestQuote(t *testing.T) {
	if got := quote(strings.Repeat("ä", 1000)); len([]rune(got)) > maxQuote+5 {
		t.Errorf("%d characters", len([]rune(got)))
	}
}
