package vmm

import (
	"time"

	"offmap/guest/protocol"
)

// The report port is EventPort and ExitPort of package protocol.
const (
	reportBase = protocol.EventPort
	reportSize = 2
)

// report is the device with these registers.
type report struct{ m *Machine }

// Read implements bus.Device: there is nothing to read.
func (*report) Read(_ uint64, p []byte) { clear(p) }

// Write implements bus.Device.
func (r *report) Write(off uint64, p []byte) {
	for i, v := range p {
		switch off + uint64(i) {
		case protocol.EventPort - reportBase:
			if v == protocol.EventUserland {
				r.m.userland.CompareAndSwap(0, int64(time.Since(r.m.start)))
			}
			if r.m.cfg.Event != nil {
				r.m.cfg.Event(v)
			}
		case protocol.ExitPort - reportBase:
			r.m.finish(Outcome{Reason: PowerOff, Code: int(v)}, nil)
		}
	}
}
