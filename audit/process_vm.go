package audit

import "context"

// processVM reads the VMM's memory as a debugger does.
var processVM = Avenue{
	Name: "process-vm-readv", Attack: attackProcessVM,
	About: "reads the VMM's memory from another process with process_vm_readv(2)",
}

func attackProcessVM(ctx context.Context, t Target) (Finding, error) {
	f, err := t.sweep(ctx, 1<<20, func(p []byte, addr uint64) (int, error) {
		return readProcess(t.PID, p, addr)
	})
	return f, orDenied(err)
}
