package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"offmap/guest/protocol"
	"offmap/internal/lab/debian"
	labmachine "offmap/internal/lab/inside"
	"offmap/internal/measure/bench"
	"offmap/vmm/boot"
)

// execTree is a build tree with the kernel that TestExecSpeed boots on every VMM, and the
// one module of it that exec needs and QEMU's guest doesn't.
const execTree = "exec-tree"

// prepareExecSpeed makes that tree.
func prepareExecSpeed(t *testing.T, dir string) {
	t.Helper()
	k, err := debian.GetKernel(t.Context(), ioSeries, nil)
	if err != nil {
		t.Fatal(err)
	}
	const overlay = "fs/overlayfs/overlay.ko"
	for to, from := range map[string]string{
		"arch/x86/boot/bzImage": k.Image,
		"modules.builtin":       filepath.Join(k.ModulesDir, "modules.builtin"),
		overlay:                 filepath.Join(k.ModulesDir, "kernel", overlay),
	} {
		to = filepath.Join(dir, execTree, to)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		copyFile(t, from, to)
	}
	for name, text := range map[string]string{"include/config/kernel.release": k.Release, "modules.order": overlay} {
		path := filepath.Join(dir, execTree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// execCommand is the command that is timed: /bin/sh is made where there is none.
var execCommand = []string{"/bin/sh", "-c", "true"}

// execArgs is the command of a VMM that runs execCommand in a guest with this machine's
// files.
func (m ioMachine) execArgs(s bench.Subject) []string {
	if s.Peer == "" {
		return append([]string{
			labmachine.BinDir + "/offmap", "exec", "--backend", string(s.Backend), "--attach", string(s.Attach),
			"--memory", fmt.Sprint(ioMiB), "--kernel", filepath.Join(m.dir, execTree), "--",
		}, execCommand...)
	}
	cmdline := boot.Cmdline(m.tscKHz, quiet+" rdinit=/init rootfstype=virtiofs root="+ioTag+" "+protocol.ExecWord("true"))
	return []string{
		"qemu-system-x86_64", "-M", "microvm,pcie=on,pit=on,pic=on,rtc=on,ioapic2=off,memory-backend=ram", "-accel", "kvm", "-cpu", "host", "-smp", "1",
		"-m", fmt.Sprint(ioMiB), "-object", fmt.Sprintf("memory-backend-memfd,id=ram,size=%dM,share=on", ioMiB),
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-kernel", m.kernel, "-initrd", m.initrd, "-append", cmdline,
		"-chardev", "socket,id=fs,path=" + m.socket(), "-device", "vhost-user-fs-pci,chardev=fs,tag=" + ioTag,
	}
}

// execOnce times a command from the start of the VMM to its end.
func (m ioMachine) execOnce(ctx context.Context, _ *bench.Env, s bench.Subject) ([]float64, error) {
	start := time.Now()
	wait := func() error { return nil }
	if s.Peer != "" {
		var err error
		if wait, err = m.serve(ctx); err != nil {
			return nil, err
		}
	}
	args := m.execArgs(s)
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	took := time.Since(start)
	if waitErr := wait(); err == nil {
		err = waitErr
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", s, err, out)
	}
	if s.Peer != "" && strings.Contains(string(out), "init:") {
		return nil, fmt.Errorf("%s: not what was to be timed:\n%s", s, out)
	}
	return []float64{took.Seconds()}, nil
}

// TestExecSpeed times exec from its start to its end, beside QEMU with virtiofsd and the
// same kernel, files and command.
func TestExecSpeed(t *testing.T) {
	needInside(t)
	if *boots < 5 {
		t.Skip("SKIPPED: wants -boots=5 or more")
	}
	onlyOn(t, ioSeries)
	if !exists("/usr/bin/qemu-system-x86_64") {
		installPeers(t)
	}
	if !exists("/bin") {
		if err := os.Symlink(labmachine.BinDir, "/bin"); err != nil {
			t.Fatal(err)
		}
	}
	m := newIOMachine(t)
	m.share = "/"
	if err := os.CopyFS(filepath.Join(m.dir, execTree), os.DirFS(execTree)); err != nil {
		t.Fatal(err)
	}
	anon, bridge, qemu := ioSubjects()
	doc := bench.Plan{
		Env:    &bench.Env{Host: bench.ThisHost(os.DirFS("/"))},
		Rounds: max(*boots, bench.MinRounds),
		Scenarios: []bench.Scenario{{
			Name: "exec", About: "a command in a guest, from the start of the VMM to its end",
			Metrics:  []bench.Metric{{Name: "true", Unit: "sec"}},
			Subjects: func(*bench.Env, []bench.Subject) []bench.Subject { return []bench.Subject{anon, bridge, qemu} },
			Sample:   m.execOnce,
		}},
	}.Run(t.Context())
	medians := map[bench.Subject]float64{}
	for _, r := range doc.Results {
		fmt.Printf("%s %s %.2f s (%.2f to %.2f) %v %s\n", r.Name, r.Subject, r.Median, r.Low, r.High, r.Values, r.Reason)
		medians[r.Subject] = r.Median
	}
	for s, most := range map[bench.Subject]float64{anon: 0.9, bridge: 1} {
		if took := medians[s]; took == 0 || took > most*medians[qemu] {
			t.Errorf("%s takes %.2f s and QEMU %.2f s, want at most %g times as long", s, took, medians[qemu], most)
		}
	}
}
