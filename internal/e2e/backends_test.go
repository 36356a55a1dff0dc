package e2e

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/internal/measure/probe"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/memory/memtest"
)

// reservedWord has every lab machine start without 64 MiB of its 2 GiB of RAM,
// in the middle of the second: kernel and initramfs are far from there.
const reservedWord = "memmap=64M$0x60000000"

// planted is in how many pages the guests of these tests plant a canary.
const planted = 256

// TestBackends runs a guest that writes and verifies all its RAM, in every
// backend: where the kernel offers it that works, and where not there are words
// and exit code 4.
func TestBackends(t *testing.T) {
	needInside(t)
	for _, c := range []struct {
		backend memory.Backend
		fix     string // what the refusal says, where there is one
	}{
		{memory.Anon, ""}, {memory.Memfd, ""}, {memory.Reserved, ""}, {memory.Secret, ""},
		{memory.Hugetlb, "sudo sysctl vm.nr_hugepages=24"}, // before there are any
		{memory.Hugetlb, ""},
		{memory.GuestMemfd, guestMemfdRefusal(t)},
	} {
		t.Run(string(c.backend), func(t *testing.T) {
			if c.backend == memory.Hugetlb && c.fix == "" {
				memtest.HugePages(t, 48<<20)
			}
			code := 0
			if c.fix != "" {
				code = 4
			}
			d, r := report(t, code, "--backend", string(c.backend), "--payload", "touch", "-m", "48")
			if code != 0 {
				if d.Exit.Reason != "refused" || !strings.Contains(r.stderr, c.fix) {
					t.Errorf("%+v\n%s", d, r.stderr)
				}
				return
			}
			want := attach.Direct
			if c.backend == memory.Secret {
				want = attach.ViaBridge
			}
			exposed := d.Memory
			if !c.backend.Exposed() {
				exposed = 0
			}
			if d.Attach != want || d.Populated != d.Memory || d.Exposed != exposed || d.ExposedPeak != exposed {
				t.Errorf("%+v", d)
			}
		})
	}
}

// guestMemfdRefusal is what the backend guest-memfd is refused with on this
// kernel; "" if it isn't. The program asks KVM, this test the version.
func guestMemfdRefusal(t *testing.T) string {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(unix.ByteSliceToString(u.Release[:]), "6.1") { // 6.1 and 6.12
		return "Linux 6.18"
	}
	return ""
}

// TestOrdinaryIsExposed holds that what a guest writes to the ordinary backends
// is in the direct map, page for page.
func TestOrdinaryIsExposed(t *testing.T) {
	needInside(t)
	for _, b := range []memory.Backend{memory.Hugetlb, memory.GuestMemfd} {
		t.Run(string(b), func(t *testing.T) {
			if b == memory.GuestMemfd && guestMemfdRefusal(t) != "" {
				t.Skip("skipped: this kernel hasn't got it")
			}
			memtest.HugePages(t, 32<<20)
			args, canary := planter(t, planted, true)
			g := startRun(t, append([]string{"--backend", string(b)}, args...)...)
			g.await(t, plantedLine)
			if n := inDirectMap(t, canary); n < planted {
				t.Errorf("the canary is in %d pages of the direct map, want %d", n, planted)
			}
		})
	}
}

// TestReserved fills the reserved range with guests: none is in the direct map,
// none gets another's memory, and each finds its own cleared, whatever became
// of the one before.
func TestReserved(t *testing.T) {
	needInside(t)
	args, canary := planter(t, planted, true)
	reserved := append([]string{"--backend", "reserved"}, args...)
	first := startRun(t, reserved...)
	first.await(t, plantedLine)
	if direct, ram := inDirectMap(t, canary), inRAM(t, canary); direct != 0 || ram != planted {
		t.Errorf("the canary is in %d pages of RAM, %d of them in the direct map; want %d and 0", ram, direct, planted)
	}
	second := startRun(t, reserved...)
	second.await(t, plantedLine)
	if n := inRAM(t, canary); n != 2*planted {
		t.Errorf("two guests have the canary in %d pages, want %d", n, 2*planted)
	}
	third := startRun(t, reserved...)
	if code := third.ended(); code != 4 || !strings.Contains(third.out.String(), "free of other guests") {
		t.Errorf("a guest too many: exit code %d, want 4 and why\n%s", code, third.out.String())
	}

	// A VMM that is killed can't clear anything; its lock goes with it.
	first.Process.Kill()
	first.ended()
	if n := inRAM(t, canary); n != 2*planted {
		t.Errorf("after a SIGKILL the canary is in %d pages: who cleared them?", n)
	}
	otherArgs, _ := planter(t, planted/16, true) // so few overwrite little
	heir := startRun(t, append([]string{"--backend", "reserved"}, otherArgs...)...)
	heir.await(t, plantedLine)
	if n := inRAM(t, canary); n != planted {
		t.Errorf("with a guest in its place the canary is in %d pages, want the second guest's %d", n, planted)
	}
	heir.Process.Kill()
	heir.ended()

	// One that can, does.
	second.Process.Signal(syscall.SIGTERM)
	if code := second.ended(); code != 128+15 {
		t.Errorf("exit code %d, want 143\n%s", code, second.out.String())
	}
	if n := inRAM(t, canary); n != 0 {
		t.Errorf("the canary is in %d pages of RAM after all", n)
	}

	r := offmapRun(t, "run", "--backend", "reserved", "--payload", "hello", "-m", "65")
	if r.code != 4 || !strings.Contains(r.stderr, "65536 KiB at 0x60000000") || !strings.Contains(r.stderr, "memmap=65M$0x") {
		t.Errorf("more than the range: exit code %d, want 4 and what to boot with\n%s", r.code, r.stderr)
	}
}

// TestReservedIsCached holds that a guest's reserved memory is write-back, by
// the kernel's list of memory types, and that doctor tells. A page that this test maps uncached
// shows that the list tells.
func TestReservedIsCached(t *testing.T) {
	needInside(t)
	args, _ := planter(t, planted, true)
	g := startRun(t, append([]string{"--backend", "reserved"}, args...)...)
	g.await(t, plantedLine)
	if status, says := readDoctor(t, offmapRun(t, "doctor", "--json").stdout).check(t, "reserved"); status != probe.OK || !strings.Contains(says, "write-back") {
		t.Errorf("doctor says %s of the memory's type: %s", status, says)
	}
	fd, err := unix.Open("/dev/mem", unix.O_RDWR|unix.O_SYNC|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	page, err := unix.Mmap(fd, 0x63fff000, memory.PageSize, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(page)
	list, err := os.ReadFile("/sys/kernel/debug/x86/pat_memtype_list")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"[mem 0x0000000060000000-0x0000000062000000] write-back",
		"[mem 0x0000000063fff000-0x0000000064000000] uncached-minus",
	} {
		if !strings.Contains(string(list), want) {
			t.Errorf("no %s in:\n%s", want, list)
		}
	}
}

// TestReservedGuard runs a guest that writes every paravirtual MSR it knows. Its
// RAM has no direct map for KVM to write to: each must be a #GP (TestGuard has
// the control).
func TestReservedGuard(t *testing.T) {
	needInside(t)
	d, r := report(t, 0, "--backend", "reserved", "--payload", "kvmclock", "-m", "32")
	if d.Attach != "direct" || !strings.Contains(r.stderr, "#GP") || strings.Contains(r.stderr, "accepted") {
		t.Errorf("%+v\n%s", d, r.stderr)
	}
}
