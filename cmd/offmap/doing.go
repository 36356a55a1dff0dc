package main

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"offmap/kvm"
	"offmap/vmm"
	"offmap/vmm/symbols"
)

// maxDoing is of how many vCPUs the end of a guest is told.
const maxDoing = 8

// timeoutError says what the vCPUs were doing when the guest's time was over.
type timeoutError struct{ doing string }

func (e *timeoutError) Error() string { return errTimeout.Error() + ": " + e.doing }

// Unwrap makes errors.Is(err, errTimeout) true.
func (e *timeoutError) Unwrap() error { return errTimeout }

// explainTimeout adds to the error of Run what the guest was doing when its time was
// over. It may read a large file, so the guest must be gone and lastResort disarmed.
func (s *session) explainTimeout(r vmm.Result, err error) error {
	if !errors.Is(err, errTimeout) || len(r.Doing) == 0 {
		return err
	}
	var table *symbols.Table
	if k := s.kernel; k.image != "" {
		var e error
		if table, e = symbols.Find(k.image, k.tree); e != nil {
			slog.Debug(fmt.Sprintf("addresses are without names: %v", e))
		}
	}
	// KASLR is the work of a bzImage's decompressor: an ELF file, which has its own
	// symbols, isn't moved.
	unmoved := slices.Contains(strings.Fields(s.guest.append+" "+s.guest.cmdline), "nokaslr") || table != nil && table.File == s.kernel.image
	return &timeoutError{doing(r.Doing, table, unmoved)}
}

// doing tells what vCPUs were doing. table may be nil. unmoved says that KASLR hasn't
// moved the kernel.
func doing(cpus []vmm.Doing, table *symbols.Table, unmoved bool) string {
	name := func(uint64) (string, bool) { return "", false }
	if table != nil {
		var lstar uint64
		for _, c := range cpus { // those that haven't started have none
			lstar = max(lstar, c.Syscall)
		}
		if offset, ok := table.Offset(lstar); ok || lstar == 0 && unmoved {
			if lstar == 0 {
				offset = 0
			}
			name = func(addr uint64) (string, bool) { return table.Name(addr - offset) }
		}
	}
	var list []string
	for i, c := range cpus {
		if i == maxDoing {
			list = append(list, fmt.Sprintf("and %d more", len(cpus)-i))
			break
		}
		if c.State == kvm.MPUninitialized || c.State == kvm.MPInitReceived {
			list = append(list, fmt.Sprintf("vCPU %d had not been started", i))
			continue
		}
		what := "ran"
		if c.State == kvm.MPHalted {
			what = "was halted"
		}
		text := fmt.Sprintf("vCPU %d %s at 0x%x", i, what, c.RIP)
		if c.User {
			text += " in user mode"
		} else if n, ok := name(c.RIP); ok {
			text += " (" + n + ")"
		}
		list = append(list, text)
	}
	return strings.Join(list, ", ")
}
