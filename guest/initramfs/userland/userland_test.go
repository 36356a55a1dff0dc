package userland

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"offmap/audit/canary"
	"offmap/guest/protocol"
)

// TestMain lets the tests start this binary as any of the commands.
func TestMain(m *testing.M) {
	if p := Program(os.Args); p != nil {
		os.Exit(p())
	}
	os.Exit(m.Run())
}

// run runs a shell command with only the userland's commands in PATH.
func run(t *testing.T, dir, command, stdin string) (stdout string, code int) {
	t.Helper()
	bin := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range Names() {
		if err := os.Symlink(exe, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	var out, errs bytes.Buffer
	cmd := exec.Command(filepath.Join(bin, "sh"), "-c", command)
	cmd.Dir = dir
	// The race detector would hold up the end of each process by a second.
	cmd.Env = []string{"PATH=" + bin, "GORACE=atexit_sleep_ms=0"}
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if errs.Len() > 0 {
		t.Logf("stderr: %s", &errs)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

func TestCommands(t *testing.T) {
	for _, tt := range []struct {
		name, command, stdin, stdout string
		code                         int
	}{
		{name: "exit code", command: "exit 7", code: 7},
		{name: "exit code of a child", command: `sh -c "exit 9"`, code: 9},
		{name: "syntax error", command: "echo (", code: 1},
		{name: "no such command", command: "nonsense", code: 127},
		{name: "arguments", command: `sh -c 'echo $0 $1 $#' name a b`, stdout: "name a 2\n"},
		{name: "script on standard input", command: "sh", stdin: "echo $((6*7))\nexit 3\n", stdout: "42\n", code: 3},
		{name: "script in a file", command: `echo 'echo got $1' >f; sh f x`, stdout: "got x\n"},
		{name: "pipe", command: "cat | grep -v b | wc", stdin: "a\nb\nc d\n", stdout: "      2       3       6\n"},
		{name: "grep finds nothing", command: "grep x", stdin: "a\n", code: 1},
		{name: "grep counts", command: "grep -c -i A", stdin: "a\nA\nb", stdout: "2\n"},
		{name: "grep without a last newline", command: "grep b", stdin: "a\nb", stdout: "b"},
		{name: "grep in files", command: "echo a >f; echo ab >g; grep a f g", stdout: "f:a\ng:ab\n"},
		{name: "grep with a bad pattern", command: "grep '('", code: 1},
		{name: "grep without a pattern", command: "grep", code: 2},
		{name: "head", command: "head -n 2", stdin: "a\nb\nc\n", stdout: "a\nb\n"},
		{name: "head of less", command: "head", stdin: "a", stdout: "a"},
		{name: "wc of a missing file", command: "wc missing", code: 1},
		{name: "dd", command: "dd if=/dev/zero of=f bs=1K count=3; wc f", stdout: "      0       1    3072 f\n"},
		{name: "dd to the end", command: "dd bs=2", stdin: "abc", stdout: "abc"},
		{name: "dd with a bad size", command: "dd bs=1X", code: 1},
		{name: "dd with no size", command: "dd bs=", code: 1},
		{name: "dd with an unknown word", command: "dd conv=swab", code: 2},
		{name: "u-root's", command: "mkdir -p a/b; touch a/b/c; cp a/b/c d; mv d e; chmod 600 e; rm -r a; ls; find .", stdout: "e\n.\ne\n"},
		{name: "kill", command: "sh -c 'kill $$; sleep 5'", code: 128 + 15},
		{name: "kill with a signal", command: "sh -c 'kill -9 $$; sleep 5'", code: 128 + 9},
		{name: "kill nobody", command: "kill", code: 2},
		{name: "kill a word", command: "kill x", code: 1},
		{name: "sleep", command: "sleep 0.01"},
		{name: "sleep for ever", command: "sleep NaN", code: 1},
		{name: "help", command: "head -h", code: 0},
		{name: "uname", command: "uname | grep -c Linux", stdout: "1\n"},
		{name: "ps", command: "ps | grep -c ' ps$'", stdout: "1\n"},
		{name: "free", command: "free | grep -c Mem", stdout: "3\n"},
		{name: "mount", command: "mount | grep -c '^proc /proc '", stdout: "1\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stdout, code := run(t, t.TempDir(), tt.command, tt.stdin)
			if stdout != tt.stdout || code != tt.code {
				t.Errorf("%s: printed %q and ended with %d, want %q and %d", tt.command, stdout, code, tt.stdout, tt.code)
			}
		})
	}
}

func TestNamesAreSortedAndUnique(t *testing.T) {
	names := Names()
	if !slices.IsSorted(names) || len(slices.Compact(names)) != len(applets) {
		t.Errorf("commands not in order or twice: %v", names)
	}
}

// TestProgramLeavesOthersAlone checks that Program returns nil for offmap's own name,
// and for init unless this is process 1.
func TestProgramLeavesOthersAlone(t *testing.T) {
	for _, args := range [][]string{nil, {""}, {"offmap"}, {"/usr/bin/offmap", "sh"}, {"/init"}, {"./init", "sh"}} {
		if Program(args) != nil {
			t.Errorf("%q is taken for a command of the guest's", args)
		}
	}
}

func TestPsLine(t *testing.T) {
	rest := " S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 4096 25 0"
	for _, tt := range []struct{ stat, want string }{
		{"7 (sh)" + rest, "    7 S   100 sh"},
		{"7 (a) S (b)" + rest, "    7 S   100 a) S (b"},
		{"7 sh S 1", ""},
		{"7 (sh) S 1", ""},
		{"", ""},
	} {
		got, err := psLine(tt.stat)
		if got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("psLine(%q) = %q, %v; want %q", tt.stat, got, err, tt.want)
		}
	}
}

// TestCanary runs the guest's canary command on this machine.
func TestCanary(t *testing.T) {
	stdout, code := run(t, t.TempDir(), "canary -pages 5 -hold", "\n")
	lines := strings.Split(stdout, "\n")
	if code != 0 || len(lines) != 4 || lines[1] != protocol.CanaryPlanted || lines[2] != protocol.CanaryHeldLine(5, 5) {
		t.Errorf("ended with %d and printed %q", code, lines)
	}
	if masked, pages, ok := protocol.ParseCanaryLine(lines[0]); !ok || len(masked) != 2*canary.Size || pages != 5 {
		t.Errorf("first line %q", lines[0])
	}
	dir := t.TempDir()
	stdout, code = run(t, dir, "canary -pages 3 -file one -file two -hold", "\n")
	lines = strings.Split(stdout, "\n")
	masked, _, _ := protocol.ParseCanaryLine(lines[0])
	if c, err := canary.Parse(masked); code != 0 || err != nil || lines[2] != protocol.CanaryHeldLine(3, 3) {
		t.Errorf("with files it ended with %d and printed %q (%v)", code, lines, err)
	} else {
		for _, name := range []string{"one", "two"} {
			b, err := os.ReadFile(filepath.Join(dir, name))
			n := 0
			for at := 0; at+canary.Size <= len(b); at += 64 {
				if c.In(b[at:]) {
					n++
				}
			}
			if err != nil || len(b) != 3*pageSize || n != 3 {
				t.Errorf("file %s: %d bytes with %d canaries, %v", name, len(b), n, err)
			}
		}
	}
	if _, code := run(t, dir, "canary -pages 5 -file nowhere/x", ""); code == 0 {
		t.Error("a file that can't be made, and yet it ended with 0")
	}
	if _, code := run(t, t.TempDir(), "canary -pages 5 -hold", ""); code == 0 {
		t.Error("no input, and yet it ended with 0")
	}
	if _, code := run(t, t.TempDir(), "canary -pages -1", ""); code == 0 {
		t.Error("-1 pages, and yet it ended with 0")
	}
}

func TestExitsUsage(t *testing.T) {
	for _, command := range []string{"exits -n 0", "exits -n 100000001", "exits 5"} {
		if stdout, code := run(t, t.TempDir(), command, ""); code != 2 || stdout != "" {
			t.Errorf("%s: printed %q and ended with %d, want usage", command, stdout, code)
		}
	}
}
