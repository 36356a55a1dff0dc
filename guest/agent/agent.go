// Package agent runs a program in a virtual machine as if it ran on the host: with the
// arguments, environment, directory and user of the host's, its standard streams, its
// terminal and signals, and its exit code. The guests of `offmap exec` and the machines
// of `offmap lab` use it.
//
// Run is the half inside, for process 1. Host is the half outside. They talk in frames
// (Conn) over a virtio console port.
package agent

// Port is the name of the port in a guest of `offmap exec`.
const Port = "org.offmap.exec"

// Command is a program to run.
type Command struct {
	// Path is the program. If it is empty, Argv[0] is looked for in Env's PATH.
	Path string   `json:"path,omitempty"`
	Argv []string `json:"argv"`
	Env  []string `json:"env"`
	Dir  string   `json:"dir"`
	// User, if there, is who the program runs as. Else that is root.
	User *User `json:"user,omitempty"`
	// Umask is the file mode creation mask, if there.
	Umask *int `json:"umask,omitempty"`
	// Terminal, if there, is what the program gets instead of pipes.
	Terminal *Terminal `json:"terminal,omitempty"`
}

// User is a user with groups, by their numbers.
type User struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups"`
}

// Terminal is what a program sees of the user's terminal.
type Terminal struct {
	Rows uint16 `json:"rows"` // characters
	Cols uint16 `json:"cols"`
	// StderrPipe leaves stderr a pipe: the user has sent it elsewhere.
	StderrPipe bool `json:"stderr_pipe,omitempty"`
}

// Report says how it went inside.
type Report struct {
	// Code is the program's exit code, 128+n after signal n. A program that can't
	// be started has the shell's codes: 127 if there is no such program, else 126.
	Code int `json:"code"`
	// Failure is what kept the program from being run, in words.
	Failure string `json:"failure,omitempty"`
	// LostLog counts the kernel log records that were overwritten before
	// they could be read.
	LostLog uint64 `json:"lost_log,omitempty"`
}

// Spec is what process 1 of a guest of `offmap exec` finds in its initramfs.
type Spec struct {
	Command
	// Root is the tag of the share that is the guest's root, below an overlay
	// that takes what the guest writes.
	Root string `json:"root"`
	// Writable are the shares that the guest writes to, by the absolute path of
	// their directory.
	Writable map[string]string `json:"writable,omitempty"`
	// Artifacts is the tag of the share for what a failed test leaves, or "".
	Artifacts string `json:"artifacts,omitempty"`
	// Hostname is the machine's name.
	Hostname string `json:"hostname"`
	// Log has the kernel's log sent at the end.
	Log bool `json:"log,omitempty"`
}

// SpecPath is where the initramfs holds the Spec, as JSON.
const SpecPath = "/exec.json"
