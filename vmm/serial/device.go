package serial

import "fmt"

// Read implements bus.Device.
func (u *UART) Read(off uint64, p []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range p {
		p[i] = u.load(off + uint64(i))
	}
	u.update()
}

// Write implements bus.Device. If the guest sends while the transmitter is full,
// Write waits for Out, unless the guest has ended.
func (u *UART) Write(off uint64, p []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i, v := range p {
		u.store(off+uint64(i), v)
	}
	u.update()
}

func (u *UART) dlab() bool   { return u.lcr&lcrDLAB != 0 }
func (u *UART) looped() bool { return u.mcr&mcrLoop != 0 }

// listening reports whether the guest takes input: it has the receive interrupt
// enabled, or polls.
func (u *UART) listening() bool { return u.ier&ierReceive != 0 || u.rx.polled() }

// received is how many bytes the guest can read from the data register.
func (u *UART) received() int {
	switch {
	case u.looped():
		return u.loop.len()
	case u.listening():
		return u.rx.fifo
	}
	return 0
}

// receive reads the data register.
func (u *UART) receive() byte {
	switch {
	case u.received() == 0:
		// A driver that empties the FIFO without looking.
		u.rx.notPolled()
		return 0
	case u.looped():
		return u.loop.pop()
	}
	return u.rx.pop()
}

func (u *UART) load(reg uint64) byte {
	switch reg {
	case regData:
		if u.dlab() {
			return u.divisor[0]
		}
		return u.receive()
	case regIER:
		if u.dlab() {
			return u.divisor[1]
		}
		return u.ier
	case regIIR:
		id := u.pending()
		if id == iirTransmit {
			u.transmit = false
		}
		if u.fcr&fcrEnable != 0 {
			id |= iirFIFO
		}
		return id
	case regLCR:
		return u.lcr
	case regMCR:
		return u.mcr
	case regLSR:
		return u.lineStatus()
	case regMSR:
		return u.modemStatus()
	case regScratch:
		return u.scratch
	}
	return 0xff
}

func (u *UART) store(reg uint64, v byte) {
	if reg >= regIER && reg <= regMCR {
		u.rx.notPolled() // the guest sets up the port
	}
	switch reg {
	case regData:
		switch {
		case u.dlab():
			u.rx.notPolled()
			u.divisor[0] = v
		case u.looped():
			u.overrun = u.overrun || u.loop.full()
			if !u.loop.full() {
				u.loop.push(v)
			}
			u.transmit = true
		default:
			u.send(v)
		}
	case regIER:
		if u.dlab() {
			u.divisor[1] = v
			return
		}
		was := u.ier
		u.ier = v & ierMask
		switch {
		case u.ier&^was&ierTransmit != 0:
			// Enabling it with the transmitter empty raises it, each time.
			u.transmit = u.tx.Ready()
		case was&^u.ier&ierTransmit != 0:
			// The driver has nothing more to say for now.
			u.tx.Flush()
		}
	case regIIR: // FCR
		if v&fcrClearReceive != 0 || (v^u.fcr)&fcrEnable != 0 {
			u.loop.clear()
		}
		if v&fcrEnable == 0 {
			v = 0 // the other bits want this one
		}
		u.fcr = v
	case regLCR:
		u.lcr = v
	case regMCR:
		if (v^u.mcr)&mcrLoop != 0 {
			u.loop.clear()
		}
		u.mcr = v & mcrMask
		if !u.looped() { // loopback disconnects the lines
			u.rx.setRTS(v&mcrRTS != 0)
		}
	case regScratch:
		u.scratch = v
	}
}

// send transmits v. It drops the lock meanwhile, since it may wait.
func (u *UART) send(v byte) {
	u.transmit = false
	u.rx.idle = false
	if u.sent != nil {
		u.sent(v)
	}
	u.mu.Unlock()
	u.tx.Put(v)
	u.mu.Lock()
	u.transmit = u.tx.Ready()
}

// drained is called when a transmitter that was full has room again.
func (u *UART) drained() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.transmit = true
	u.update()
}

// refill is called when the FIFO may be filled again.
func (u *UART) refill() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.rx.fill()
	u.update()
}

// lineStatus reads LSR, which clears the error bits.
func (u *UART) lineStatus() (s byte) {
	if u.looped() || u.tx.Ready() {
		s |= lsrEmpty
	}
	u.rx.polls(s&lsrEmpty != 0)
	if u.received() > 0 {
		s |= lsrData
	}
	if u.overrun {
		s |= lsrOverrun
		u.overrun = false
	}
	return s
}

// modemStatus reads MSR: a peer that is always ready, or our own outputs in
// loopback. The lines don't change by themselves, so the delta bits stay 0.
func (u *UART) modemStatus() (s byte) {
	if !u.looped() {
		return msrCTS | msrDSR | msrDCD
	}
	for _, w := range [...]struct{ out, in byte }{
		{mcrRTS, msrCTS}, {mcrDTR, msrDSR}, {mcrOut1, msrRI}, {mcrOut2, msrDCD},
	} {
		if u.mcr&w.out != 0 {
			s |= w.in
		}
	}
	return s
}

// pending is the interrupt identification: the highest in priority, or none.
func (u *UART) pending() byte {
	switch {
	case u.ier&ierLine != 0 && u.overrun:
		return iirLine
	case u.ier&ierReceive != 0 && u.received() > 0:
		if u.received() < triggers[u.fcr>>fcrTriggerShift] {
			return iirReceiveTime
		}
		return iirReceive
	case u.ier&ierTransmit != 0 && u.transmit:
		return iirTransmit
	}
	return iirNone
}

// update drives the interrupt line as the registers say. Everything that changes
// a register calls it at the end.
func (u *UART) update() {
	level := u.pending() != iirNone
	if level == u.level || u.irq == nil || u.closed {
		return
	}
	u.level = level
	if err := u.irq.SetLevel(level); err != nil && !u.irqFailed {
		u.irqFailed = true
		go u.onError(fmt.Errorf("serial interrupt: %w", err))
	}
}
