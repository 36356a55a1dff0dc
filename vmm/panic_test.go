package vmm

import (
	"strings"
	"testing"

	"offmap/vmm/power"
	"offmap/vmm/pvpanic"
	"offmap/vmm/serial"
)

func TestPanicWatch(t *testing.T) {
	const mark = "[    1.2] Kernel panic - not syncing: VFS: no root\r\n"
	for _, c := range []struct{ name, sent, want string }{
		{"none", "hello\nworld\n", ""},
		{"one", mark, "Kernel panic - not syncing: VFS: no root"},
		{"first wins", mark + strings.ReplaceAll(mark, "VFS", "later"), "Kernel panic - not syncing: VFS: no root"},
		{"over two lines", "Kernel panic -\n not syncing: x\n", ""},
		{"too late in a long line", strings.Repeat("x", 256) + mark, ""},
		{"not text", "Kernel panic - not syncing: \xff\n", "Kernel panic - not syncing: ?"},
		{"unfinished", "Kernel panic - not syncing: Fa", "Kernel panic - not syncing: Fa"},
		{"unfinished, after one", mark + "Kernel panic - not syncing: again", "Kernel panic - not syncing: VFS: no root"},
		{"hardly begun", "Kernel panic", ""},
	} {
		var w panicWatch
		sent := w.console()
		for i := range len(c.sent) {
			sent(c.sent[i])
		}
		if got, ok := w.seen(); got != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// To look at an unfinished line doesn't make it the finding.
func TestPanicWatchUnfinished(t *testing.T) {
	var w panicWatch
	sent := w.console()
	send := func(s string) {
		for i := range len(s) {
			sent(s[i])
		}
	}
	send("Kernel panic - not syncing: VFS")
	w.seen()
	send(": no root\n")
	if got, _ := w.seen(); got != "Kernel panic - not syncing: VFS: no root" {
		t.Errorf("%q", got)
	}
}

// A guest's consoles don't get into each other's lines.
func TestPanicWatchConsoles(t *testing.T) {
	var w panicWatch
	a, b := w.console(), w.console()
	const one, other = "Kernel panic - not syncing: VFS\n", "reboot: System halted\n"
	for i := range max(len(one), len(other)) {
		if i < len(one) {
			a(one[i])
		}
		if i < len(other) {
			b(other[i])
		}
	}
	if got, _ := w.seen(); got != strings.TrimSpace(one) || !w.said(wordHalt) {
		t.Errorf("%q, said that it halts: %v", got, w.said(wordHalt))
	}
}

// lastWords are what a guest may print before it resets.
var lastWords = []string{
	"Kernel panic - not syncing: at once\n",
	"Kernel panic - not syncing: at once",
}

// A guest that prints a panic's line and resets with its next instruction has
// panicked, however often it is tried.
func TestPanicThenReset(t *testing.T) {
	for _, words := range lastWords {
		for i := range 1000 {
			m := &Machine{ended: make(chan struct{})}
			if err := m.createDevices(); err != nil {
				t.Fatal(err)
			}
			for _, b := range []byte(words) {
				m.ports.Write(serial.COM1, []byte{b})
			}
			m.ports.Write(power.KeyboardPort, []byte{0xfe}) // the reset pulse
			if want := strings.TrimSpace(words); m.outcome.Reason != Panic || m.outcome.Detail != want {
				t.Fatalf("%q, time %d: %+v", words, i, m.outcome)
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A guest that uses the panic device has panicked when it resets. The reason is on the
// console, before or after, or isn't there.
func TestPanicDevice(t *testing.T) {
	const line = "Kernel panic - not syncing: at once"
	for _, tt := range []struct{ before, after, want string }{
		{line + "\n", "", line},
		{"", line + "\n", line},
		{"quiet\n", "", silentPanic},
	} {
		m := &Machine{ended: make(chan struct{})}
		if err := m.createDevices(); err != nil {
			t.Fatal(err)
		}
		send := func(s string) {
			for _, b := range []byte(s) {
				m.ports.Write(serial.COM1, []byte{b})
			}
		}
		send(tt.before)
		m.ports.Write(pvpanic.Port, []byte{1})
		select {
		case <-m.ended:
			t.Error("the panic device ended the guest, which may have more to say")
		default:
		}
		send(tt.after)
		m.ports.Write(power.KeyboardPort, []byte{0xfe})
		if m.outcome != (Outcome{Reason: Panic, Detail: tt.want}) {
			t.Errorf("%q, %q: %+v", tt.before, tt.after, m.outcome)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// The same with a guest that runs.
func TestPanicThenResetGuest(t *testing.T) {
	needKVM(t)
	code := []byte{
		0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0xb9, 0, 0, 0, 0, // mov ecx, len(words)
		0xf3, 0x6e, // rep outsb
		0xb0, 0xfe, // mov al, 0xfe
		0xe6, 0x64, // out 0x64, al
		0xf4, // hlt
	}
	for _, words := range lastWords {
		code[5] = byte(len(words))
		for i := range 20 {
			r, out, err := run(t.Context(), t, guestCode(code, words))
			if err != nil || r.Outcome.Reason != Panic || out != words {
				t.Fatalf("%q, time %d: %+v, %v, %q", words, i, r.Outcome, err, out)
			}
		}
	}
}

// What counts is the last word of those that end the machine.
func TestSaid(t *testing.T) {
	for sent, want := range map[string]string{
		"[    1.2] reboot: System halted\r\n":                      wordHalt,
		"[    1.2] reboot: System halted":                          wordHalt,
		"reboot: Power off not available: System halted instead\n": wordHalt,
		"reboot: Restarting system\nreboot: machine restart\n":     wordRestart,
		"reboot: System halted\nreboot: Restarting system\n":       wordRestart,
		" -- System halted\n":                                      "",
		"reboot: Power down\n":                                     "",
	} {
		var w panicWatch
		console := w.console()
		for i := range len(sent) {
			console(sent[i])
		}
		for _, word := range []string{wordHalt, wordRestart} {
			if w.said(word) != (word == want) {
				t.Errorf("%q: said %q is %v", sent, word, w.said(word))
			}
		}
	}
}
