package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"testing"

	"offmap/kvm"
)

// TestResident bounds what a guest's VMM has in memory besides the guest's RAM, which is
// shared memory here.
func TestResident(t *testing.T) {
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("SKIPPED: the race detector's memory would count")
	}
	sys, err := kvm.Open("")
	if err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	sys.Close()
	const most = 10 << 10 // KiB
	cmd := asProgram(t, "run", "-q", "--backend", "memfd", "--rng", "-k", testKernel(t, chat))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if _, err := bufio.NewReader(out).ReadByte(); err != nil { // the guest runs
		t.Fatal(err)
	}
	status, err := os.Open(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer status.Close()
	parts := map[string]int{}
	for lines := bufio.NewScanner(status); lines.Scan(); {
		var name string
		var kib int
		if n, _ := fmt.Sscanf(lines.Text(), "%s %d kB", &name, &kib); n == 2 {
			parts[name] = kib
		}
	}
	resident := parts["RssAnon:"] + parts["RssFile:"]
	t.Logf("%d KiB, %d of those are of files", resident, parts["RssFile:"])
	if resident == 0 || resident > most {
		t.Errorf("%d KiB are resident besides guest RAM, at most %d are wanted", resident, most)
	}
}
