package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"offmap/memory"
	"offmap/memory/attach"
)

// Identify returns the kind of RAM of the guest that a process runs, from the
// process's mappings.
func Identify(pid int) (Column, error) {
	areas, err := Target{PID: pid}.areas()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Column{}, fmt.Errorf("there is no process %d", pid)
	case errors.Is(err, fs.ErrPermission):
		return Column{}, fmt.Errorf("look into process %d: %w: run as root", pid, err)
	case err != nil:
		return Column{}, err
	}
	c, ok := identify(areas)
	if !ok {
		return Column{}, fmt.Errorf("process %d runs no guest", pid)
	}
	return c, nil
}

// marks are mappings by which a kind of guest RAM is recognized. The first one
// that the process has decides.
var marks = []struct {
	path string
	Column
}{
	{memory.RemovedDevice, Column{Pair: attach.Pair{Backend: memory.Removed, Attach: attach.Direct}}}, // first, as its path begins with the bridge's
	{attach.BridgeDevice, Column{Pair: attach.Pair{Backend: memory.Secret, Attach: attach.ViaBridge}}},
	{"/secretmem", Column{Pair: attach.Pair{Backend: memory.Secret, Attach: attach.ViaWindow}}},
	{"/dev/mem", Column{Pair: attach.Pair{Backend: memory.Reserved, Attach: attach.Direct}}},
	{"anon_inode:[kvm-gmem]", Column{Pair: attach.Pair{Backend: memory.GuestMemfd, Attach: attach.Direct}}},
	{"/memfd:offmap-hugetlb", Column{Pair: attach.Pair{Backend: memory.Hugetlb, Attach: attach.Direct}}},
	{"/memfd:offmap-ram", Column{Pair: attach.Pair{Backend: memory.Memfd, Attach: attach.Direct}}},
	// Anonymous memory has no name of its own.
	{"anon_inode:kvm-vcpu", Column{Pair: attach.Pair{Backend: memory.Anon, Attach: attach.Direct}}},
}

func identify(areas []area) (Column, bool) {
	has := func(prefix string) bool {
		for _, a := range areas {
			if strings.HasPrefix(a.Path, prefix) {
				return true
			}
		}
		return false
	}
	if !has("anon_inode:kvm-vcpu") {
		return Column{}, false
	}
	for _, m := range marks {
		if has(m.path) {
			return m.Column, true
		}
	}
	return Column{}, false
}
