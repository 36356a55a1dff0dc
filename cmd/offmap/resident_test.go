package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"testing"
)

// TestResident bounds what a guest's VMM has in memory besides the guest's RAM, which is
// shared memory here.
func TestResident(t *testing.T) {
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("SKIPPED: the race detector's memory would count")
	}
	needKVM(t)
	const most = 10 << 10 // KiB
	cmd := asProgram(t, "run", "-q", "--backend", "memfd", "--rng", "-k", testKernel(t, chat))
	cmd.Path = inSmallPages(t, cmd.Path)
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

// inSmallPages copies a program so that the page cache has it in single pages. Of a huge
// one, a fault may map all (finish_fault, mm/memory.c), and it would depend on the file's
// past how much of it is resident.
func inSmallPages(t *testing.T, program string) (copied string) {
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	copied = filepath.Join(t.TempDir(), filepath.Base(program))
	file, err := os.OpenFile(copied, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	for page := range slices.Chunk(text, os.Getpagesize()) {
		if _, err := file.Write(page); err != nil {
			t.Fatal(err)
		}
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return copied
}
