package undumpable

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// These tests start the test binary again; this variable says which process it
// plays.
const roleEnv = "OFFMAP_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "":
		os.Exit(m.Run())
	case "starter":
		fmt.Println("here")
		bufio.NewReader(os.Stdin).ReadByte()
		os.Setenv(roleEnv, os.Args[1])
		panic(syscall.Exec("/proc/self/exe", os.Args, os.Environ()))
	case "victim":
		if err := Self("victim"); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		hold()
	case "late": // a program that makes itself undumpable later
		fmt.Println("here")
		bufio.NewReader(os.Stdin).ReadByte()
		unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
		hold()
	case "attacker":
		attack(os.Args[1])
	}
	os.Exit(0)
}

// hold has a secret in memory until the end of its standard input, and tells
// the test where.
func hold() {
	secret := make([]byte, 32)
	rand.Read(secret)
	fmt.Printf("%p %x\n", secret, secret)
	io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(secret)
}

// attack opens the memory of a process again and again. On "go on" it prints a line
// after its next try. When it is given the secret's address, it tries to read the
// secret through each descriptor that it has, prints how many could, and ends.
func attack(pid string) {
	told := make(chan string)
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			told <- in.Text()
		}
	}()
	fmt.Println("here")
	var opened []*os.File
	for {
		if f, err := os.OpenFile("/proc/"+pid+"/mem", os.O_RDWR, 0); err == nil {
			if len(opened) < 500 {
				opened = append(opened, f)
			} else { // keep the last one
				opened[len(opened)-1].Close()
				opened[len(opened)-1] = f
			}
		}
		select {
		case line := <-told:
			if line == goOn {
				fmt.Println("tried")
				break
			}
			var at int64
			var text string
			fmt.Sscanf(line, "0x%x %s", &at, &text)
			secret, _ := hex.DecodeString(text)
			reads := 0
			for _, f := range opened {
				got := make([]byte, len(secret))
				if n, _ := f.ReadAt(got, at); n > 0 && bytes.Equal(got, secret) {
					reads++
				}
			}
			fmt.Println(len(opened), reads)
			return
		default:
		}
	}
}

const goOn = "go on"

// user is the user and capabilities that a process of the tests runs with.
type user struct {
	name string
	uid  uint32
	caps []uintptr // all that root has
}

func (u user) start(t *testing.T, role string, args ...string) (in io.WriteCloser, out *bufio.Reader, cmd *exec.Cmd) {
	t.Helper()
	cmd = exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: u.uid, Gid: u.uid}}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	started := make(chan error)
	go func() {
		// A thread can't get its bounding set back, so the thread ends with
		// its goroutine.
		runtime.LockOSThread()
		for c := range uintptr(unix.CAP_LAST_CAP + 1) {
			if !slices.Contains(u.caps, c) {
				unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
			}
		}
		started <- cmd.Start()
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return in, bufio.NewReader(stdout), cmd
}

func line(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	s, err := r.ReadString('\n')
	if err != nil {
		t.Fatalf("a process said %q and then nothing: %v", s, err)
	}
	return strings.TrimSpace(s)
}

// Another process of the same user opens a program's memory from before the program
// starts. It can't read the secret through a descriptor that it got, and can't open
// the memory any more. If a program makes itself undumpable later, the other process
// can read the secret.
func TestSelf(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root, to run processes as other users")
	}
	for _, u := range []user{
		{name: "a user", uid: 65534},
		{name: "root without capabilities", uid: 0},
		// As in a container: this user can read every file.
		{name: "root that overrides modes", uid: 0, caps: []uintptr{unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH}},
	} {
		for _, role := range []string{"victim", "late"} {
			t.Run(u.name+"/"+role, func(t *testing.T) {
				vin, vout, victim := u.start(t, "starter", role)
				line(t, vout)
				pid := fmt.Sprint(victim.Process.Pid)
				ain, aout, _ := u.start(t, "attacker", pid)
				line(t, aout)
				// After two answers, a whole try lay in between.
				try := func() {
					for range 2 {
						fmt.Fprintln(ain, goOn)
						line(t, aout)
					}
				}
				try()
				fmt.Fprintln(vin)
				if role == "late" {
					line(t, vout)
					try()
					fmt.Fprintln(vin)
				}
				where := line(t, vout)
				if !strings.HasPrefix(where, "0x") {
					t.Fatal(where)
				}
				try()
				fmt.Fprintln(ain, where)
				var opened, reads int
				fmt.Sscan(line(t, aout), &opened, &reads)
				t.Logf("%d descriptors, and by %d of them the secret was read", opened, reads)
				if opened == 0 {
					t.Error("the attacker opened nothing, not even before the program started")
				}
				if got := reads > 0; got != (role == "late") {
					t.Errorf("the secret was read: %v", got)
				}
				if role == "victim" {
					check(t, pid)
				}
			})
		}
	}
}

// check looks, as root, at the rest of what Self promises.
func check(t *testing.T, pid string) {
	t.Helper()
	comm, _ := os.ReadFile("/proc/" + pid + "/comm")
	limits, _ := os.ReadFile("/proc/" + pid + "/limits")
	_, core, _ := strings.Cut(string(limits), "Max core file size")
	core, _, _ = strings.Cut(core, "\n")
	if string(comm) != "victim\n" || !slices.Equal(strings.Fields(core), []string{"0", "0", "bytes"}) {
		t.Errorf("name %q, limit of core files:%s", comm, core)
	}
}

// Root that may trace every process can't be kept out, so Self makes no copy.
func TestSelfOfRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root")
	}
	all := user{}
	for c := range uintptr(unix.CAP_LAST_CAP + 1) {
		all.caps = append(all.caps, c)
	}
	vin, vout, victim := all.start(t, "starter", "victim")
	line(t, vout)
	fmt.Fprintln(vin)
	line(t, vout)
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", victim.Process.Pid))
	if err != nil || strings.HasPrefix(exe, "/memfd:") {
		t.Errorf("it runs %s, %v", exe, err)
	}
}
