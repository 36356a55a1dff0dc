package limits

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"offmap/audit/canary"
	"offmap/internal/process/sandbox"
	"offmap/memory"
)

// ownerLimits is what memfd_secret doesn't keep out.
func ownerLimits() []Limit {
	return []Limit{{
		ID:       "owner-rights",
		Title:    "Whoever may trace the owner takes its descriptor and maps the memory",
		Source:   sourceCommit + ": what is left to an attacker is a privileged process that uses ptrace",
		Link:     linkCommit,
		How:      "A child holds secret memory with a random canary. This process takes the descriptor with pidfd_getfd(2), maps it, and looks for the canary and for another that the child doesn't have.",
		Expected: "The mapping works, with the child's canary and without the other",
		Means:    "Against root secret memory is no boundary, and against other processes of the user only if the VMM is undumpable (prctl PR_SET_DUMPABLE): it removes what the kernel does by itself and by accident. System calls injected with ptrace need no descriptor.",
		check:    checkOwner,
	}}
}

func checkOwner(ctx context.Context) (o Observation, err error) {
	canaries, err := newCanaries(2)
	if err != nil {
		return o, err
	}
	holder, fds, err := plant(ctx, string(memory.Secret), canaries[0].String())
	if err != nil {
		return o, err
	}
	defer holder.end()
	found, err := steal(holder.cmd.Process.Pid, fds[0], canaries)
	if sandbox.Refused(err) {
		return o, skipped("%v", err)
	}
	if err != nil {
		o.Text = err.Error()
		return o, ctx.Err()
	}
	o.Holds = found[0] == plantPages && found[1] == 0
	o.Text = fmt.Sprintf("pidfd_getfd and mmap work for user %d: %d of %d pages have the child's canary, %d the other one", os.Geteuid(), found[0], plantPages, found[1])
	return o, nil
}

// steal takes a descriptor of plantPages pages of planted memory from another
// process, and counts the pages with each canary.
func steal(pid, fd int, canaries []canary.Canary) (found []int, err error) {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, sandbox.Judge("pidfd_open", err)
	}
	defer unix.Close(process)
	stolen, err := unix.PidfdGetfd(process, fd, 0)
	if err != nil {
		if errors.Is(err, unix.ENOSYS) || sandbox.Capable(unix.CAP_SYS_PTRACE) {
			return nil, sandbox.Judge("pidfd_getfd", err)
		}
		return nil, fmt.Errorf("pidfd_getfd: %w", sandbox.Suspect("pidfd_getfd", err))
	}
	defer unix.Close(stolen)
	mem, err := unix.Mmap(stolen, 0, plantPages*memory.PageSize, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap of the descriptor taken: %w", err)
	}
	defer unix.Munmap(mem)
	found = make([]int, len(canaries))
	for off := 0; off < len(mem); off += memory.PageSize {
		for i, c := range canaries {
			if c.In(mem[off+plantAt:]) {
				found[i]++
			}
		}
	}
	return found, nil
}
