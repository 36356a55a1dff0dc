package attach

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var (
	storm     = flag.Int("storm", 6, "how many processes TestBridgeStorm lets loose on the device")
	stormSeed = flag.Uint64("storm-seed", 0, "where TestBridgeStorm's random numbers begin; 0 is somewhere else each time")
)

// A process of the storm reports so many times, each time after so many steps.
const (
	stormReports = 20
	stormSteps   = 50
)

// stormEnv tells a process of the storm its seed, how many reports are left, and which
// descriptors it has from before an execve.
const stormEnv = "OFFMAP_TEST_STORM"

// stormState is what a process of the storm is told.
type stormState struct {
	Seed     uint64
	Reports  int
	Inherits [2][]int // devices, secret files
}

// TestBridgeStorm has processes use the device at random, two at a time. Their threads
// store to the views meanwhile, they pass descriptors to each other, and half of them
// are killed. What this looks for is in the kernel's log, and in who may map what.
func TestBridgeStorm(t *testing.T) {
	needBridge(t)
	if testing.Short() {
		t.Skip("skipped: TestModuleStorm runs it beside a guest")
	}
	seed := *stormSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-storm-seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	before := traces(t)

	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	type outcome struct {
		worked map[string]int
		err    error
	}
	var sides [2]chan outcome
	total, killed := map[string]int{}, 0
	wait := func(side int) {
		o := <-sides[side]
		if o.err != nil {
			t.Error(o.err)
		}
		for name, n := range o.worked {
			total[name] += n
		}
	}
	for n := range *storm {
		side := n % 2
		if n >= 2 {
			wait(side)
		}
		state, kill := stormState{Seed: random.Uint64(), Reports: stormReports}, -1
		if random.IntN(2) == 0 {
			kill = random.IntN(stormReports)
			killed++
		}
		sides[side] = make(chan outcome, 1)
		go func() {
			worked, err := stormRun(pair[side], state, kill)
			sides[side] <- outcome{worked, err}
		}()
	}
	for side := range min(2, *storm) {
		wait(side)
	}
	unix.Close(pair[0])
	unix.Close(pair[1])

	t.Logf("%d processes, %d of them killed; what worked: %v", *storm, killed, total)
	for _, s := range stormDo {
		if total[s.name] == 0 && *storm >= 6 {
			t.Errorf("it has never worked: %s", s.name)
		}
	}
	if after := traces(t); after.refs != before.refs || after.views != before.views {
		t.Errorf("before: %+v, after: %+v", before, after)
	}
}

// stormRun runs one process of the storm. It kills the process after kill reports, unless
// that is negative, and returns how often each step has worked.
func stormRun(socket int, state stormState, kill int) (worked map[string]int, err error) {
	told, err := json.Marshal(state)
	if err != nil {
		return nil, err
	}
	fd, err := unix.FcntlInt(uintptr(socket), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	peer := os.NewFile(uintptr(fd), "socket")
	defer peer.Close()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestBridgeStormProcess$", "-test.timeout=30m")
	cmd.Env = append(os.Environ(), stormEnv+"="+string(told))
	cmd.ExtraFiles = []*os.File{peer}
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	worked = map[string]int{}
	reports := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var report map[string]int
		if json.Unmarshal(lines.Bytes(), &report) != nil {
			said.WriteString(lines.Text() + "\n")
			continue
		}
		for name, n := range report {
			worked[name] += n
		}
		if reports++; reports == kill {
			time.Sleep(rand.N(10 * time.Millisecond))
			cmd.Process.Kill()
		}
	}
	err = cmd.Wait()
	if kill >= 0 && errors.As(err, new(*exec.ExitError)) && cmd.ProcessState.ExitCode() == -1 {
		return worked, nil
	}
	if err != nil {
		return worked, fmt.Errorf("seed %d: %w\n%s", state.Seed, err, said.Bytes())
	}
	return worked, nil
}

// TestBridgeStormProcess is a process of the storm.
func TestBridgeStormProcess(t *testing.T) {
	told := os.Getenv(stormEnv)
	if told == "" {
		t.Skip("skipped: a part of TestBridgeStorm")
	}
	var state stormState
	if err := json.Unmarshal([]byte(told), &state); err != nil {
		t.Fatal(err)
	}
	p := newStormProcess(t, &state)
	var stop atomic.Bool
	done := make(chan struct{})
	for n := range uint64(2) {
		go func() {
			p.touch(rand.New(rand.NewPCG(state.Seed, n+1)), &stop)
			done <- struct{}{}
		}()
	}
	for ; state.Reports > 0; state.Reports-- {
		worked := map[string]int{}
		for range stormSteps {
			if name, do := p.draw(); do(p) == nil {
				worked[name]++
			}
		}
		report, err := json.Marshal(worked)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("%s\n", report)
		if p.random.IntN(stormReports/2) == 0 {
			p.exec(t)
		}
	}
	stop.Store(true)
	<-done
	<-done
}

// stormProcess is what the steps of a process of the storm work on.
type stormProcess struct {
	t      *testing.T
	state  *stormState
	random *rand.Rand
	arena  []byte         // where its mappings are
	files  [2][]stormFile // devices, secret files
	plain  int            // an ordinary file
}

// stormFile is a descriptor. Only the process that has opened a device may bind and
// map it.
type stormFile struct {
	fd     int
	own    bool
	mapped []byte // where it was mapped last, from its start on
}

const (
	stormDevices = iota
	stormSecrets
)

// The arena's size, and the most that one step works on.
const stormArena, stormPart = 256 * page, 16

func newStormProcess(t *testing.T, state *stormState) *stormProcess {
	p := &stormProcess{t: t, state: state, random: rand.New(rand.NewPCG(state.Seed, uint64(state.Reports)))}
	setMemlock(t, unix.RLIM_INFINITY)
	var err error
	if p.plain, err = unix.MemfdCreate("plain", unix.MFD_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	if err := unix.Ftruncate(p.plain, stormArena); err != nil {
		t.Fatal(err)
	}
	p.arena = mapShared(t, p.plain, 0, stormArena)
	for kind, fds := range state.Inherits {
		for _, fd := range fds {
			p.files[kind] = append(p.files[kind], stormFile{fd: fd})
		}
		for len(p.files[kind]) < 4 {
			p.files[kind] = append(p.files[kind], stormFile{fd: -1})
			p.open(kind, len(p.files[kind])-1)
		}
	}
	return p
}

// touch stores and loads at random.
func (p *stormProcess) touch(r *rand.Rand, stop *atomic.Bool) {
	for n := 0; !stop.Load(); n++ {
		if n%8 == 0 {
			time.Sleep(time.Millisecond) // a turn for the steps, on one CPU
		}
		if i := r.IntN(stormArena); r.IntN(2) == 0 {
			store(p.arena, i, byte(i))
		} else {
			load(p.arena, i)
		}
	}
}

// part is a random part of the arena, in pages.
func (p *stormProcess) part() []byte {
	n := 1 + p.random.IntN(stormPart)
	at := p.random.IntN(stormArena/page - n)
	return p.arena[at*page : (at+n)*page]
}

func (p *stormProcess) file(kind int) *stormFile {
	return &p.files[kind][p.random.IntN(len(p.files[kind]))]
}

// replace puts another file in the place of one of its kind.
func (p *stormProcess) replace(kind int, f stormFile) {
	i := p.random.IntN(len(p.files[kind]))
	unix.Close(p.files[kind][i].fd)
	p.files[kind][i] = f
}

func (p *stormProcess) open(kind, i int) (err error) {
	f := stormFile{own: true}
	if kind == stormDevices {
		f.fd, err = unix.Open(BridgeDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	} else if f.fd, err = unix.MemfdSecret(unix.O_CLOEXEC); err == nil {
		err = unix.Ftruncate(f.fd, int64(page*(1+p.random.IntN(2*stormPart))))
	}
	if err != nil {
		return err
	}
	unix.Close(p.files[kind][i].fd)
	p.files[kind][i] = f
	return nil
}

// mustNot fails the storm if what only a device's opener may do has worked for another
// address space.
func (p *stormProcess) mustNot(what string, f *stormFile, err error) error {
	if err == nil && !f.own {
		p.t.Fatalf("%s: it has worked with a device that another address space opened", what)
	}
	return err
}

// mapOver maps a file over mem.
func (p *stormProcess) mapOver(mem []byte, fd int, off int64, flags int) error {
	prot := unix.PROT_READ | unix.PROT_WRITE
	if p.random.IntN(4) == 0 {
		prot = unix.PROT_READ
	}
	_, err := unix.MmapPtr(fd, off, start(mem), uintptr(len(mem)), prot, flags|unix.MAP_FIXED)
	return err
}

var stormAdvice = []int{
	unix.MADV_DONTNEED, unix.MADV_REMOVE, unix.MADV_FREE, unix.MADV_DOFORK, unix.MADV_DONTFORK, unix.MADV_DODUMP,
	unix.MADV_DONTDUMP, unix.MADV_WIPEONFORK, unix.MADV_KEEPONFORK, unix.MADV_MERGEABLE, unix.MADV_HUGEPAGE, unix.MADV_NOHUGEPAGE,
	unix.MADV_COLD, unix.MADV_PAGEOUT, unix.MADV_COLLAPSE, unix.MADV_POPULATE_READ, unix.MADV_POPULATE_WRITE,
	unix.MADV_WILLNEED, unix.MADV_RANDOM, 102, 103, // MADV_GUARD_INSTALL and _REMOVE, since 6.13
}

// stormDo is what a process of the storm does, and how often beside the rest.
var stormDo = []struct {
	name   string
	weight int
	do     func(p *stormProcess) error
}{
	{"open the device", 1, func(p *stormProcess) error { return p.open(stormDevices, p.random.IntN(len(p.files[stormDevices]))) }},
	{"make a file", 1, func(p *stormProcess) error { return p.open(stormSecrets, p.random.IntN(len(p.files[stormSecrets]))) }},
	{"bind", 6, func(p *stormProcess) error {
		dev, f := p.file(stormDevices), p.file(stormSecrets)
		s := secret{f.fd, f.mapped}
		if f.mapped == nil || p.random.IntN(4) == 0 {
			s.mem = p.part()
		}
		req := s.request()
		return p.mustNot("bind", dev, bind(dev.fd, &req))
	}},
	{"map a view", 8, func(p *stormProcess) error {
		dev := p.file(stormDevices)
		return p.mustNot("mmap", dev, p.mapOver(p.part(), dev.fd, int64(p.random.IntN(4)*page), unix.MAP_SHARED))
	}},
	{"map a file", 3, func(p *stormProcess) error {
		f, mem, first := p.file(stormSecrets), p.part(), p.random.IntN(4)
		err := p.mapOver(mem, f.fd, int64(first*page), unix.MAP_SHARED)
		if err == nil && first == 0 {
			f.mapped = mem
		}
		return err
	}},
	{"map ordinary memory", 1, func(p *stormProcess) error {
		return p.mapOver(p.part(), -1, 0, unix.MAP_PRIVATE|unix.MAP_ANON)
	}},
	{"unmap", 1, func(p *stormProcess) error {
		mem := p.part()
		return unix.MunmapPtr(start(mem), uintptr(len(mem)))
	}},
	{"move", 1, func(p *stormProcess) error {
		from, to := p.part(), p.part()
		_, err := remap(from, len(from), min(len(from), len(to)), unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, to)
		return err
	}},
	{"protect", 1, func(p *stormProcess) error {
		return mprotect(p.part(), []int{unix.PROT_NONE, unix.PROT_READ, unix.PROT_READ | unix.PROT_WRITE, unix.PROT_READ | unix.PROT_WRITE}[p.random.IntN(4)])
	}},
	{"advise", 1, func(p *stormProcess) error { return madvise(p.part(), stormAdvice[p.random.IntN(len(stormAdvice))]) }},
	{"lock", 1, func(p *stormProcess) error { return unix.Mlock(p.part()) }},
	{"unlock", 1, func(p *stormProcess) error { return unix.Munlock(p.part()) }},
	{"limit", 1, func(p *stormProcess) error {
		limit := uint64(unix.RLIM_INFINITY)
		if p.random.IntN(4) == 0 {
			limit = uint64(p.random.IntN(2 * stormPart * page))
		}
		return unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: limit, Max: unix.RLIM_INFINITY})
	}},
	// Not for missing pages: what touches one would wait, and Go's scheduler for that.
	{"register", 1, func(p *stormProcess) error { return uffdRegister(p.part(), 2<<p.random.IntN(2)) }},
	{"read into", 1, func(p *stormProcess) error {
		_, err := unix.Pread(p.plain, p.part(), 0)
		return err
	}},
	{"write from", 1, func(p *stormProcess) error {
		_, err := unix.Pwrite(p.plain, p.part(), 0)
		return err
	}},
	{"pin", 1, func(p *stormProcess) error { return readRemote(p.part()) }},
	{"splice", 1, func(p *stormProcess) error { return splice(p.part()) }},
	{"fork", 1, func(p *stormProcess) error {
		return errnoError(forkedMsync(p.t, p.part()))
	}},
	{"map in a fork", 1, func(p *stormProcess) error {
		errno := forkedMmap(p.t, p.file(stormDevices).fd, page)
		if errno == 0 {
			p.t.Fatal("a fork has mapped the device")
		}
		if errno != unix.EPERM {
			return errno
		}
		return nil
	}},
	{"send", 1, func(p *stormProcess) error {
		kind := p.random.IntN(2)
		f := p.file(kind)
		if !f.own { // its opener might get it back
			return unix.EPERM
		}
		return unix.Sendmsg(3, []byte{byte(kind)}, unix.UnixRights(f.fd), nil, 0)
	}},
	{"receive", 1, func(p *stormProcess) error {
		kind, control := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
		_, n, _, _, err := unix.Recvmsg(3, kind, control, unix.MSG_CMSG_CLOEXEC)
		if err != nil {
			return err
		}
		messages, err := unix.ParseSocketControlMessage(control[:n])
		if err != nil || len(messages) == 0 {
			return unix.EIO
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil {
			return err
		}
		p.replace(int(kind[0]), stormFile{fd: fds[0]})
		return nil
	}},
}

// draw takes one of them.
func (p *stormProcess) draw() (name string, do func(p *stormProcess) error) {
	all := 0
	for _, s := range stormDo {
		all += s.weight
	}
	n := p.random.IntN(all)
	for _, s := range stormDo {
		if n -= s.weight; n < 0 {
			return s.name, s.do
		}
	}
	panic("unreachable")
}

// exec has the process become another one, with the same descriptors.
func (p *stormProcess) exec(t *testing.T) {
	next := stormState{Seed: p.state.Seed, Reports: p.state.Reports - 1}
	for kind, files := range p.files {
		for _, f := range files {
			if _, err := unix.FcntlInt(uintptr(f.fd), unix.F_SETFD, 0); err != nil {
				t.Fatal(err)
			}
			next.Inherits[kind] = append(next.Inherits[kind], f.fd)
		}
	}
	told, err := json.Marshal(next)
	if err != nil {
		t.Fatal(err)
	}
	env := slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, stormEnv+"=") })
	t.Fatal(unix.Exec("/proc/self/exe", os.Args, append(env, stormEnv+"="+string(told))))
}
