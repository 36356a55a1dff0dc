package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"offmap/vmm/gdb/gdbtest"
)

// TestGDB debugs Linux in hidden RAM: it stops in the kernel at its start and in a
// system call, reads and changes its memory, steps, and lets it go on to its end.
func TestGDB(t *testing.T) {
	needInside(t)
	oneIsEnough(t, "6.12")
	p := placing{"bridge", "2"}
	if kernelIs(t, "6.1") {
		p = placing{"window", "1"}
	}
	at := kernelSymbols(t, "start_kernel", "__x64_sys_newuname", "linux_banner", "init_uts_ns")
	socket := filepath.Join(t.TempDir(), "gdb")
	g := startRun(t, append(p.args(), "-k", guestKernel, "--append", quiet+" nokaslr", "--gdb", socket, "--exec", "uname -a; exit 3")...)
	g.await(t, "waits for gdb")
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c, stop, err := gdbtest.New(conn)
	if err != nil || stop != "T05thread:1;" {
		t.Fatalf("%q, %v", stop, err)
	}
	do := func(packet, want string) {
		t.Helper()
		if reply, err := c.Do(packet); err != nil || !strings.HasPrefix(reply, want) {
			t.Fatalf("%q: %q, %v; want %q\n%s", packet, reply, err, want, g.out.String())
		}
	}
	breakAt := func(kind, name string) {
		t.Helper()
		where := fmt.Sprintf("%s,%x,1", kind, at[name])
		do("Z"+where, "OK")
		do("vCont;c", "T05thread:")
		if rip, err := c.Register(gdbtest.RIP); err != nil || rip != at[name] {
			t.Errorf("stopped at 0x%x, %v; want %s, 0x%x", rip, err, name, at[name])
		}
		do("z"+where, "OK")
	}
	breakAt("1", "start_kernel")
	if b, err := c.Memory(at["linux_banner"], 17); err != nil || !bytes.HasPrefix(b, []byte("Linux version 6.1")) {
		t.Errorf("linux_banner is %q, %v", b, err)
	}
	breakAt("0", "__x64_sys_newuname")
	if cr3, err := c.Register(gdbtest.CR3); err != nil || cr3 == 0 {
		t.Errorf("CR3 0x%x, %v", cr3, err)
	}
	// Its first field is struct new_utsname: arrays of 65 characters, of
	// which the second is the node's name.
	const name = "set-by-gdb"
	do(fmt.Sprintf("M%x,%x:%x00", at["init_uts_ns"]+65, len(name)+1, name), "OK")
	for range 10 {
		do("vCont;s:"+thread(t, c), "T05thread:")
	}
	if rip, err := c.Register(gdbtest.RIP); err != nil || rip == at["__x64_sys_newuname"] {
		t.Errorf("10 steps lead to 0x%x, %v", rip, err)
	}
	do("vCont;c", "W03")
	if code := g.ended(); code != 3 || !strings.Contains(g.out.String(), "Linux "+name+" ") {
		t.Errorf("exit code %d\n%s", code, g.out.String())
	}
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// thread returns the number of the thread that has stopped.
func thread(t *testing.T, c *gdbtest.Client) string {
	t.Helper()
	reply, err := c.Do("qC")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(reply, "QC")
}

// kernelSymbols boots the guest kernel without KASLR, and returns addresses of its
// symbols.
func kernelSymbols(t *testing.T, names ...string) map[string]uint64 {
	t.Helper()
	var exec []string
	for _, n := range names {
		exec = append(exec, "grep "+n+" /proc/kallsyms")
	}
	r := offmapRunFor(t, 3*time.Minute, "run", "-k", guestKernel, "--backend", "memfd", "--append", quiet+" nokaslr", "--exec", strings.Join(exec, "; "))
	at := make(map[string]uint64)
	for line := range strings.Lines(r.stdout) {
		if f := strings.Fields(line); len(f) == 3 {
			at[f[2]], _ = strconv.ParseUint(f[0], 16, 64)
		}
	}
	for _, n := range names {
		if at[n] == 0 {
			t.Fatalf("%s has no address in:\n%s\n%s", n, r.stdout, r.stderr)
		}
	}
	return at
}
