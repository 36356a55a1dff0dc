package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	labmachine "offmap/internal/lab/inside"
	"offmap/internal/measure/bench"
)

// peersDir is where TestLab puts the programs of other VMMs, with all that
// they need, as they are to be from the lab's root on.
const peersDir = "peers"

// peersInstalled is a file that says that they are there.
const peersInstalled = "/usr/installed"

// gokvmPackage is a VMM that is small, and in Go too.
const gokvmPackage = "github.com/bobuhiro11/gokvm"

// qemuFirmware is what QEMU's machines microvm and q35 load for a kernel.
var qemuFirmware = []string{"bios-256k.bin", "bios-microvm.bin", "kvmvapic.bin", "linuxboot_dma.bin", "qboot.rom"}

// preparePeers gathers what TestLinuxBoots and TestIOSpeed compare with.
func preparePeers(t *testing.T, dir string) {
	t.Helper()
	root := filepath.Join(dir, peersDir)
	bring := func(path string) {
		to := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		copyFile(t, path, to)
	}
	run := func(name string, args ...string) string {
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
		return string(out)
	}
	run("go", "build", "-o", filepath.Join(root, "usr/bin/gokvm"), gokvmPackage)

	qemu, err := exec.LookPath("qemu-system-x86_64") // the lab itself needs it
	if err != nil {
		t.Fatal(err)
	}
	copyFile(t, qemu, filepath.Join(root, "usr/bin", filepath.Base(qemu)))
	for _, lib := range regexp.MustCompile(`/\S+`).FindAllString(run("ldd", qemu), -1) {
		bring(lib)
	}
	dirs := strings.Fields(run(qemu, "-L", "help"))
	for _, name := range qemuFirmware {
		found := false
		for _, d := range dirs {
			if path := filepath.Join(d, name); !found && exists(path) {
				bring(path)
				found = true
			}
		}
		if !found {
			t.Fatalf("QEMU's firmware %s is in none of %v", name, dirs)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// installPeers copies what preparePeers has gathered to where it belongs. Run
// from the host's directory a program would be read anew each time, through
// the lab's file server, and offmap itself is not.
func installPeers(t *testing.T) {
	t.Helper()
	t.Setenv("PATH", "/usr/bin:"+os.Getenv("PATH"))
	if exists(peersInstalled) {
		return // for another test
	}
	if exists("/usr") {
		t.Fatal("/usr is there: this isn't the lab, or a directory of the host's")
	}
	err := filepath.WalkDir(peersDir, func(path string, d fs.DirEntry, err error) error {
		to := strings.TrimPrefix(path, peersDir)
		switch {
		case err != nil || to == "":
			return err
		case d.IsDir():
			return os.MkdirAll(to, 0o755)
		}
		copyFile(t, path, to)
		return nil
	})
	if err := errors.Join(err, os.WriteFile(peersInstalled, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// bootResults is the file for what TestLinuxBoots has measured.
const bootResults = "linux-boot.json"

// TestLinuxBoots boots Linux in ordinary and in secret memory, and on other
// VMMs, in turns.
func TestLinuxBoots(t *testing.T) {
	needInside(t)
	if *boots < 5 {
		t.Skip("SKIPPED: wants -boots=5 or more")
	}
	installPeers(t)
	cmd := exec.Command(labmachine.BinDir+"/offmap", "bench", "--only", "linux-boot", "--backend", "anon,memfd,secret",
		"--kernel", guestKernel, "--count", fmt.Sprint(*boots), "--report", bootResults)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(bootResults)
	if err != nil {
		t.Fatal(err)
	}
	var doc bench.Document
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	medians := map[string]float64{}
	for _, r := range doc.Results {
		if r.Name == "linux-boot/to-userland" && len(r.Values) > 0 {
			medians[r.Subject.String()] = r.Median
		}
	}
	ordinary := medians["anon+direct"]
	for subject, most := range map[string]float64{"anon+direct": 1, "secret+bridge": 1.25} {
		if m := medians[subject]; m == 0 || m > most*ordinary {
			t.Errorf("%s takes %.2f s to userland and ordinary memory %.2f s, want at most %g times as long", subject, m, ordinary, most)
		}
	}
	for _, p := range []bench.Peer{bench.Gokvm, bench.MicroVM, bench.Q35} {
		if m := medians[string(p)]; m == 0 || m < ordinary {
			t.Errorf("%s takes %.2f s to userland and offmap %.2f s, want no less", p, m, ordinary)
		}
	}
}
