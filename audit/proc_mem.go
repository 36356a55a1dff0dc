package audit

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// procMem reads the VMM's memory as a file.
var procMem = Avenue{
	Name: "proc-mem", Attack: attackProcMem,
	About: "reads the VMM's memory through /proc/PID/mem",
}

func attackProcMem(ctx context.Context, t Target) (Finding, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mem", t.PID))
	if err != nil {
		return Finding{}, orDenied(err)
	}
	defer f.Close()
	return t.sweep(ctx, 1<<20, func(p []byte, addr uint64) (int, error) {
		return unix.Pread(int(f.Fd()), p, int64(addr))
	})
}
