package vmm

import (
	"time"

	"offmap/memory"
	"offmap/memory/attach"
)

// Look is the state of a guest at one moment.
type Look struct {
	At           time.Duration // since New
	attach.Usage               // of RAM, without what devices hold
	Faults       uint64        // that the window's pager has answered
	Exits        uint64        // returns of KVM_RUN, over all vCPUs
	// ToUserland is as Result has it.
	ToUserland time.Duration
}

// Look returns the guest's state, and brings up to date in pages the state of each
// of its pages (attach.Attachment.Residency). It may be called at any time before
// Close. It neither stops the guest nor reads its memory.
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

// Pages returns how many pages Look takes.
func (m *Machine) Pages() int { return int(m.cfg.Memory / memory.PageSize) }
