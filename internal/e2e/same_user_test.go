package e2e

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"offmap/audit/canary"
	"offmap/memory"
)

// TestSameUser attacks guests by another process of the user who runs them,
// without any capability. From before the VMM's execve on, the intruder opens
// all that /proc offers of the VMM and its scrubber again and again, and keeps
// it. When the guest has planted its canary, it searches what it has kept. A
// guest in ordinary memory is read this way.
func TestSameUser(t *testing.T) {
	needInside(t)
	onlyOn(t, "7")
	for _, c := range []struct {
		backend, attach string
		exposed         bool
	}{
		{"memfd", "direct", true},
		{"secret", "bridge", false},
		{"secret", "window", false},
	} {
		t.Run(c.backend+" "+c.attach, func(t *testing.T) {
			devices := []string{"/dev/kvm"}
			if device := map[string]string{"bridge": "/dev/offmap", "window": "/dev/userfaultfd"}[c.attach]; device != "" {
				devices = append(devices, device)
			}
			args, canary := planter(t, killPages, false)
			args = append([]string{"./offmap", "run", "--backend", c.backend, "--attach", c.attach}, readable(t, args)...)

			vmm := startRole(t, devices, starter, args...)
			vmm.await(t, ready)
			intruder := startRole(t, nil, intruder, strconv.Itoa(vmm.Process.Pid), canary.String())
			intruder.await(t, ready)
			fmt.Fprintln(vmm.input)
			vmm.await(t, plantedLine)
			fmt.Fprintln(intruder.input)
			if code := intruder.ended(); code != 0 {
				t.Fatalf("exit code %d\n%s", code, intruder.out.String())
			}
			var kept, opens, pages int
			if _, err := fmt.Sscanf(intruder.out.String(), ready+"\n%d kept, %d open, %d pages", &kept, &opens, &pages); err != nil {
				t.Fatalf("%v in %q", err, intruder.out.String())
			}
			t.Logf("%d processes' memory kept, %d files open to it at the end: the canary in %d pages", kept, opens, pages)
			if kept == 0 {
				t.Error("it opened nothing, not even before execve")
			}
			if exposed := pages > 0; exposed != c.exposed || !c.exposed && opens > 0 {
				t.Errorf("guest RAM was read: %v, want %v", exposed, c.exposed)
			}
		})
	}
}

// A process of this test is the test binary again, told by this variable what
// to be.
const roleEnv = "OFFMAP_TEST_ROLE"

// Roles, and the line by which a process says that it is in its own.
const (
	starter  = "starter"  // waits for a line, and executes its arguments
	intruder = "intruder" // attacks the process that its first argument names
	ready    = "ready"
)

// startRole starts a process of the unprivileged user's.
func startRole(t *testing.T, devices []string, role string, args ...string) *guest {
	t.Helper()
	cmd := asUserWith(t, enough, devices, args...)
	cmd.Path, cmd.Args = "/proc/self/exe", append([]string{role}, args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	return start(t, cmd)
}

// play plays a role, and returns the exit code.
func play(role string, args []string) int {
	fmt.Println(ready)
	in := bufio.NewReader(os.Stdin)
	switch role {
	case starter:
		in.ReadString('\n')
		os.Unsetenv(roleEnv)
		fmt.Println(syscall.Exec(args[0], args, os.Environ()))
	case intruder:
		canary, err := canary.Parse(args[1])
		if err == nil {
			err = intrude(args[0], canary, in)
		}
		if err == nil {
			return 0
		}
		fmt.Println(err)
	}
	return 1
}

// look is what was opened of a process at one moment.
type look struct{ maps, mem *os.File }

// openLook opens a process's memory, to read and write.
func openLook(pid string) (l look, err error) {
	if l.maps, err = os.Open("/proc/" + pid + "/maps"); err != nil {
		return l, err
	}
	if l.mem, err = os.OpenFile("/proc/"+pid+"/mem", os.O_RDWR, 0); err != nil {
		l.maps.Close()
	}
	return l, err
}

func (l look) close() {
	l.maps.Close()
	l.mem.Close()
}

// intrude attacks a VMM until it is told that the canary is planted.
func intrude(vmm string, canary canary.Canary, in *bufio.Reader) error {
	planted := make(chan error)
	go func() {
		_, err := in.ReadString('\n')
		planted <- err
	}()
	var kept []look
	for {
		if l, err := openLook(vmm); err == nil {
			if len(kept) == 100 { // those before execve, and the latest
				kept[99].close()
				kept = kept[:99]
			}
			kept = append(kept, l)
		}
		select {
		case err := <-planted:
			if err != nil {
				return err
			}
		default:
			continue
		}
		break
	}
	found := map[int64]bool{} // by address, or by offset in a file
	for _, l := range kept {
		for lines := bufio.NewScanner(l.maps); lines.Scan(); {
			var start, end int64
			var perms string
			fmt.Sscanf(lines.Text(), "%x-%x %s", &start, &end, &perms)
			if strings.HasPrefix(perms, "rw") && end-start < 1<<30 {
				search(canary, l.mem, start, end-start, found)
			}
		}
	}
	pid, _ := strconv.Atoi(vmm)
	open := 0
	for _, pid := range append(scrubbers(pid), pid) {
		if l, err := openLook(strconv.Itoa(pid)); err == nil {
			open++
			l.close()
		}
		// The pattern is sound. What can't be listed may be there all the same.
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for n := range 10 {
			fds = append(fds, fmt.Sprintf("/proc/%d/fd/%d", pid, n))
		}
		for _, fd := range fds {
			f, err := os.OpenFile(fd, os.O_RDWR|syscall.O_NONBLOCK, 0)
			if err != nil {
				continue
			}
			open++
			if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
				search(canary, f, 0, info.Size(), found)
			}
			f.Close()
		}
	}
	fmt.Printf("%d kept, %d open, %d pages\n", len(kept), open, len(found))
	return nil
}

// search looks for the canary where the planter puts it in a page.
func search(canary canary.Canary, f *os.File, from, size int64, found map[int64]bool) {
	page := make([]byte, memory.PageSize)
	for at := from; at < from+size; at += memory.PageSize {
		if _, err := f.ReadAt(page, at); err != nil {
			continue
		}
		if canary.In(page[planterPlace:]) {
			found[at] = true
		}
	}
	clear(page)
}
