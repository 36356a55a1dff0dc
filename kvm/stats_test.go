package kvm

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// statsFile builds a statistics file of two entries: exits = 7, and a list
// whose values are 1 and 2.
func statsFile() []byte {
	le := binary.LittleEndian
	const name = 48
	b := le.AppendUint32(nil, 0)
	b = le.AppendUint32(b, name)
	b = le.AppendUint32(b, 2)
	b = le.AppendUint32(b, statsHeader)
	b = le.AppendUint32(b, statsHeader+name)
	b = le.AppendUint32(b, statsHeader+name+2*(statsDesc+name))
	b = append(b, make([]byte, name)...)
	for i, n := range []string{"exits", "list"} {
		d := make([]byte, statsDesc+name)
		le.PutUint16(d[6:], uint16(i+1))
		le.PutUint32(d[8:], uint32(8*i))
		copy(d[statsDesc:], n)
		b = append(b, d...)
	}
	for _, v := range []uint64{7, 1, 2} {
		b = le.AppendUint64(b, v)
	}
	return b
}

func TestParseStats(t *testing.T) {
	s, err := parseStats(bytes.NewReader(statsFile()))
	if err != nil || s["exits"] != 7 || s["list"] != 3 || len(s) != 2 {
		t.Errorf("%v, %v; want exits 7 and list 3", s, err)
	}
}

// FuzzParseStats holds that a file which goes wrong is an error and not a
// panic or a gigabyte.
func FuzzParseStats(f *testing.F) {
	f.Add(statsFile())
	f.Add(statsFile()[:60])
	f.Fuzz(func(t *testing.T, b []byte) {
		parseStats(bytes.NewReader(b))
	})
}

func TestStatsOfAVM(t *testing.T) {
	sys, err := Open("")
	if err != nil {
		t.Skipf("SKIPPED: no usable /dev/kvm (%v); the lab has one", err)
	}
	defer sys.Close()
	vm, err := sys.CreateVM()
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	cpu, err := vm.CreateVCPU(0)
	if err != nil {
		t.Fatal(err)
	}
	defer cpu.Close()
	s, err := cpu.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s["exits"]; !ok {
		t.Errorf("no exits among the vCPU's %d statistics", len(s))
	}
	if _, err := vm.Stats(); err != nil {
		t.Error(err)
	}
}
