package bench

import (
	"errors"

	"offmap/memory"
	"offmap/memory/attach"
)

// newVM creates a VM with size bytes of RAM in its slots. No page of it is written.
func newVM(s Subject, size uint64) (*attach.VM, error) {
	layout, err := memory.NewLayout(size)
	if err != nil {
		return nil, err
	}
	v, err := attach.NewVM("", s.Pair, layout, attach.Options{CPUs: 1})
	if err != nil {
		return nil, cannot(err)
	}
	if err := v.SetSlots(0); err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}
