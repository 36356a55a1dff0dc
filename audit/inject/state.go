package inject

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Traced says of each thread of a process that somebody traces what it is
// doing, for errors: what an attack waits for that doesn't end.
func Traced(pid int) string {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*", pid)) // the pattern is sound
	var all []string
	for _, f := range files {
		status, _ := os.ReadFile(filepath.Join(f, "status"))
		tid, err := strconv.Atoi(filepath.Base(f))
		if _, tracer, ok := strings.Cut(string(status), "\nTracerPid:\t"); err == nil && ok && !strings.HasPrefix(tracer, "0\n") {
			tracer, _, _ := strings.Cut(tracer, "\n")
			all = append(all, tracee(tid).state()+", traced by thread "+tracer)
		}
	}
	if len(all) == 0 {
		return fmt.Sprintf("no thread of process %d is traced", pid)
	}
	return strings.Join(all, "; ")
}

// state says what the thread is doing, from its files in /proc. What is missing
// is hidden from us, or the thread is gone.
func (t tracee) state() string {
	read := func(name string) string {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", int(t), name))
		return strings.TrimSpace(string(text))
	}
	_, state, _ := strings.Cut(read("stat"), ") ") // the name may hold anything
	return fmt.Sprintf("thread %d is in state %.1q, waits in %q, system call %q", int(t), state, read("wchan"), read("syscall"))
}
