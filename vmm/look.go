package vmm

import (
	"time"

	"offmap/memory"
	"offmap/memory/attach"
)

// Look is what is seen of a guest at one moment.
type Look struct {
	At time.Duration // since New
	attach.Usage
	// Faults that the attach's pager has answered, and returns of KVM_RUN over
	// all vCPUs, until then.
	Faults, Exits uint64
	// ToUserland is as Result has it.
	ToUserland time.Duration
}

// Look looks at the guest, from New on and until Close, running or not. The
// guest isn't stopped for it, and none of its memory is read. pages has the
// states of all its pages in turn and is brought up to date: see
// attach.Attachment.Residency.
func (m *Machine) Look(pages []memory.PageState) (l Look, err error) {
	l.At = time.Since(m.start)
	if l.Usage, err = m.attach.Residency(pages); err != nil {
		return l, err
	}
	if f := m.attach.Faults(); f != nil {
		l.Faults = f.Count
	}
	for _, c := range m.cpus {
		for reason := range c.exits {
			l.Exits += c.exits[reason].Load()
		}
	}
	l.ToUserland = time.Duration(m.userland.Load())
	return l, nil
}

// Pages is how many elements Look's pages has.
func (m *Machine) Pages() int { return int(m.cfg.Memory / memory.PageSize) }
