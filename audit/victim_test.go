package audit

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"offmap/audit/canary"
	"offmap/internal/process/pdeathsig"
	"offmap/memory"
)

// A victim stands in for a VMM: a process of its own that holds guest RAM of
// some backend, mapped once, with a canary planted in each page but a few. It
// is this test binary, started again.

// victimRAM is its RAM in bytes, victimPages how many pages hold the canary.
const (
	victimRAM   = 8 << 20
	victimPages = victimRAM/pageSize - 16
)

const victimVariable = "OFFMAP_TEST_VICTIM"

func TestMain(m *testing.M) {
	if b := os.Getenv(victimVariable); b != "" {
		if err := beVictim(memory.Backend(b)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func beVictim(b memory.Backend) error {
	layout, err := memory.LayoutOf(memory.Region{Size: victimRAM})
	if err != nil {
		return err
	}
	ram, err := memory.New(b, layout)
	if err != nil {
		return err
	}
	defer ram.Close()
	c, err := canary.New()
	if err != nil {
		return err
	}
	if err := plantAll(ram, c); err != nil {
		return err
	}
	// The guest's answer to the question at the end: is it still there?
	fmt.Println(c)
	io.ReadAll(os.Stdin)
	return nil
}

// plantAll plants through the mapping itself, as a guest does: a buffer that
// is copied from would be a second place with the clear text.
func plantAll(ram *memory.RAM, c canary.Canary) error {
	mem := bytesOf(ram)
	for page := 16; page < victimRAM/pageSize; page++ {
		c.Plant(mem[page*pageSize+64*(page%60):])
	}
	return nil
}

// startVictim starts a victim with RAM of backend b, and ends it with the test.
// It skips where the backend isn't there.
func startVictim(t *testing.T, b memory.Backend) Target {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	// The race detector makes a program that ends sleep for a second.
	cmd.Env = append(os.Environ(), victimVariable+"="+string(b), "GORACE=atexit_sleep_ms=0")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := pdeathsig.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the victim said %q: %v", line, err)
	}
	c, err := canary.Parse(strings.TrimSpace(line))
	if err != nil {
		t.Skipf("SKIPPED: no victim with %s memory here: %s", b, line)
	}
	return Target{PID: cmd.Process.Pid, Canary: c}
}

// testAttack makes an attack on victims in ordinary and in secret memory: it
// must find the canary in the first, and in the second only what its owner
// could.
func testAttack(t *testing.T, a Avenue) {
	for _, b := range []memory.Backend{memory.Anon, memory.Memfd, memory.Secret} {
		t.Run(string(b), func(t *testing.T) {
			f, err := a.Attack(t.Context(), startVictim(t, b))
			t.Logf("%+v, %v", f, err)
			if err != nil {
				t.Fatal(err)
			}
			if want := b.Exposed() || a.Owner; want != (f.Pages > 0) {
				t.Errorf("%s: found in %d pages, errno %v", a.Name, f.Pages, f.Errno)
			}
			if f.Pages == 0 && f.Errno == 0 {
				t.Errorf("%s: found nothing and wasn't refused", a.Name)
			}
		})
	}
}

func TestProcessVM(t *testing.T) { testAttack(t, processVM) }
