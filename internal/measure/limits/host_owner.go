package limits

import (
	"context"
	"fmt"
	"os"

	"offmap/memory"
)

// ownerLimits are about the owner's rights.
func ownerLimits() []Limit {
	return []Limit{{
		ID:       "owner-rights",
		Title:    "Whoever may trace the owner takes its descriptor and maps the memory",
		Source:   sourceCommit + ": what is left to an attacker is a privileged process that uses ptrace",
		Link:     linkCommit,
		How:      "An attack of the audit: a child holds secret memory with a random canary. This process takes the child's descriptors with pidfd_getfd(2), maps them, and looks for the canary.",
		Expected: "The mapping works, and has the canary",
		Means:    "Secret memory protects against the kernel's accidents. It is no boundary against root, and one against other processes of the user only if the VMM is undumpable (prctl PR_SET_DUMPABLE). System calls injected with ptrace need no descriptor.",
		check:    checkOwner,
	}}
}

func checkOwner(ctx context.Context) (o Observation, err error) {
	f, err := attack(ctx, "fd-theft", memory.Secret, 0)
	if err != nil {
		return o, err
	}
	o.Holds = f.Pages == attackPages
	o.Text = fmt.Sprintf("pidfd_getfd and mmap for user %d: %d of %d pages have the child's canary; %s", os.Geteuid(), f.Pages, attackPages, f.Detail)
	return o, nil
}
