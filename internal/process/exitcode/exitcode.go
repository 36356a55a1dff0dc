// Package exitcode has the exit codes of offmap's commands. They are a contract
// with those who run offmap, and don't change.
//
// A guest can end with any code, and `offmap run` then exits with the guest's.
// exit.reason in its report tells the two apart.
package exitcode

const (
	Error   = 1
	Usage   = 2   // wrong flags or arguments
	Check   = 3   // the command worked, and what it checked isn't so
	Cannot  = 4   // this host lacks something that the command needs
	Reset   = 32  // the guest reset itself
	Crash   = 33  // the guest can't go on, such as after a triple fault
	Panic   = 34  // the guest's kernel panicked
	Timeout = 124 // as timeout(1)
	Exec    = 125 // `offmap exec` itself failed: Error may be the command's
	Signal  = 128 // plus the number of the signal that ended the command
)
