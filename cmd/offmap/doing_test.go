package main

import (
	"os"
	"path/filepath"
	"testing"

	"offmap/kvm"
	"offmap/vmm"
	"offmap/vmm/symbols"
)

func TestDoing(t *testing.T) {
	dir := t.TempDir()
	text := "ffffffff81000000 T startup_64\nffffffff81001000 T default_idle\nffffffff81c00080 T entry_SYSCALL_64\n"
	if err := os.WriteFile(filepath.Join(dir, "System.map"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	table, err := symbols.Find(filepath.Join(dir, "bzImage"), "")
	if err != nil {
		t.Fatal(err)
	}
	const moved = 0x1ee00000
	guest := []vmm.Doing{
		{RIP: 0xffffffff81001005 + moved, State: kvm.MPHalted, Syscall: 0xffffffff81c00080 + moved},
		{RIP: 0xffffffff81000010 + moved, Syscall: 0xffffffff81c00080 + moved},
		{RIP: 0x401000, User: true, Syscall: 0xffffffff81c00080 + moved},
		{State: kvm.MPUninitialized},
	}
	const named = "vCPU 0 was halted at 0xffffffff9fe01005 (default_idle+0x5), vCPU 1 ran at 0xffffffff9fe00010 (startup_64+0x10), vCPU 2 ran at 0x401000 in user mode, vCPU 3 had not been started"
	const unnamed = "vCPU 0 was halted at 0xffffffff9fe01005, vCPU 1 ran at 0xffffffff9fe00010, vCPU 2 ran at 0x401000 in user mode, vCPU 3 had not been started"
	if got := doing(guest, table, false); got != named {
		t.Errorf("%q", got)
	}
	if got := doing(guest, nil, false); got != unnamed {
		t.Errorf("without a table: %q", got)
	}
	early := []vmm.Doing{{RIP: 0xffffffff81001005}} // LSTAR isn't set yet
	if got, want := doing(early, table, true), "vCPU 0 ran at 0xffffffff81001005 (default_idle+0x5)"; got != want {
		t.Errorf("%q", got)
	}
	if got, want := doing(early, table, false), "vCPU 0 ran at 0xffffffff81001005"; got != want {
		t.Errorf("with KASLR: %q", got)
	}
	for i := range guest { // another kernel's table
		guest[i].Syscall += 0x1000
	}
	if got := doing(guest, table, true); got != unnamed {
		t.Errorf("with another kernel's table: %q", got)
	}
	if got, want := doing(make([]vmm.Doing, maxDoing+2), nil, false), ", and 2 more"; got[len(got)-len(want):] != want {
		t.Errorf("%q", got)
	}
}
