package power

// ResetControl is the reset control register at ResetPort, as in the PIIX and
// ICH chip sets: bit 2 going to one resets the machine.
type ResetControl struct{ reset func() }

// NewResetControl returns the register; reset is called on the vCPU's thread.
func NewResetControl(reset func()) *ResetControl { return &ResetControl{reset} }

// Read implements bus.Device.
func (*ResetControl) Read(_ uint64, p []byte) { clear(p) }

// Write implements bus.Device.
func (d *ResetControl) Write(_ uint64, p []byte) {
	if p[0]&resetControlGo != 0 {
		d.reset()
	}
}

// Keyboard is what is left of the keyboard controller: the command that
// resets the machine. Otherwise there is none.
type Keyboard struct{ reset func() }

// NewKeyboard returns the register; reset is called on the vCPU's thread.
func NewKeyboard(reset func()) *Keyboard { return &Keyboard{reset} }

// keyboardStatus reads as an empty bus does, all ones, by which drivers tell
// that there is no controller, except that its input buffer is never full:
// Linux waits for that bit before the reset command.
const keyboardStatus = 0xff &^ (1 << 1)

// Read implements bus.Device.
func (*Keyboard) Read(_ uint64, p []byte) {
	for i := range p {
		p[i] = keyboardStatus
	}
}

// Write implements bus.Device.
func (d *Keyboard) Write(_ uint64, p []byte) {
	if p[0] == keyboardPulse {
		d.reset()
	}
}
