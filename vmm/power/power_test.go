package power

import "testing"

func read16(d *PM, off uint64) uint16 {
	var p [2]byte
	d.Read(off, p[:])
	return uint16(p[0]) | uint16(p[1])<<8
}

func TestPowerOff(t *testing.T) {
	const s5 = SleepS5 << sleepShift
	tests := []struct {
		name string
		off  uint64
		data []byte
		want int
	}{
		{"S5 in a word", PM1Control, []byte{0x01, (s5 | sleepEnable) >> 8}, 1},
		{"S5 in the high byte", PM1Control + 1, []byte{(s5 | sleepEnable) >> 8}, 1},
		{"type only", PM1Control, []byte{0x01, s5 >> 8}, 0},
		{"enable only", PM1Control, []byte{0x01, sleepEnable >> 8}, 0},
		{"S3", PM1Control, []byte{0x01, (3<<sleepShift | sleepEnable) >> 8}, 0},
		{"status", PM1Status, []byte{0xff, 0xff}, 0},
		{"whole block", PM1Status, []byte{0, 0, 0, 0, 0, (s5 | sleepEnable) >> 8}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := 0
			d := NewPM(func() { n++ })
			d.Write(tt.off, tt.data)
			if n != tt.want {
				t.Errorf("power-off called %d times, want %d", n, tt.want)
			}
			if v := read16(d, PM1Control); v&sleepEnable != 0 || v&sciEnable == 0 {
				t.Errorf("control register reads %#x", v)
			}
		})
	}
}

// ACPICA writes SLP_TYP first and SLP_EN with it in a second write.
func TestPowerOffInTwoSteps(t *testing.T) {
	n := 0
	d := NewPM(func() { n++ })
	v := read16(d, PM1Control) | SleepS5<<sleepShift
	d.Write(PM1Control, []byte{byte(v), byte(v >> 8)})
	v |= sleepEnable
	d.Write(PM1Control, []byte{byte(v), byte(v >> 8)})
	if n != 1 {
		t.Errorf("power-off called %d times", n)
	}
}

func TestPMRegisters(t *testing.T) {
	d := NewPM(nil)
	if v := read16(d, PM1Control); v != sciEnable {
		t.Errorf("control register starts as %#x: not in ACPI mode", v)
	}
	// Linux gives up ACPI if what it enables doesn't read back.
	d.Write(PM1Enable, []byte{0x20, 0x01})
	if v := read16(d, PM1Enable); v != 0x120 {
		t.Errorf("enable register reads %#x", v)
	}
	d.Write(PM1Status, []byte{0xff, 0xff})
	if v := read16(d, PM1Status); v != 0 {
		t.Errorf("status register reads %#x", v)
	}
}

func TestReset(t *testing.T) {
	tests := []struct {
		name  string
		write func(reset func())
		want  int
	}{
		{"ACPI reset register", func(r func()) { NewResetControl(r).Write(0, []byte{ResetCPU}) }, 1},
		{"hard reset", func(r func()) { NewResetControl(r).Write(0, []byte{0x0e}) }, 1},
		{"reset type only", func(r func()) { NewResetControl(r).Write(0, []byte{0x02}) }, 0},
		{"keyboard pulse", func(r func()) { NewKeyboard(r).Write(0, []byte{0xfe}) }, 1},
		{"keyboard self-test", func(r func()) { NewKeyboard(r).Write(0, []byte{0xaa}) }, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := 0
			tt.write(func() { n++ })
			if n != tt.want {
				t.Errorf("reset called %d times, want %d", n, tt.want)
			}
		})
	}
}

func TestKeyboardStatus(t *testing.T) {
	p := []byte{0}
	NewKeyboard(nil).Read(0, p)
	// Linux's kb_wait waits for bit 1 to clear; its i8042 driver takes a
	// controller whose output buffer never empties, bit 0, for none.
	if p[0]&2 != 0 || p[0]&1 == 0 {
		t.Errorf("status %#x", p[0])
	}
}

func FuzzPM(f *testing.F) {
	f.Add(uint64(4), []byte{1, 0x34})
	f.Fuzz(func(t *testing.T, off uint64, p []byte) {
		d := NewPM(func() {})
		d.Write(off, p)
		d.Read(off, p)
		if v := read16(d, PM1Control); v&sleepEnable != 0 || v&sciEnable == 0 {
			t.Errorf("control register reads %#x", v)
		}
	})
}
