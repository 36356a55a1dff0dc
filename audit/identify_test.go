package audit

import (
	"os"
	"testing"

	"offmap/memory"
	"offmap/memory/attach"
)

func TestIdentify(t *testing.T) {
	const vcpu = "anon_inode:kvm-vcpu:0"
	for _, c := range []struct {
		paths   []string
		backend memory.Backend
		attach  attach.Method
	}{
		{[]string{"", "[heap]", vcpu}, memory.Anon, attach.Direct},
		{[]string{"", "/memfd:offmap-ram (deleted)", vcpu}, memory.Memfd, attach.Direct},
		{[]string{"/secretmem (deleted)", vcpu, "/dev/offmap"}, memory.Secret, attach.ViaBridge},
		{[]string{"/memfd:offmap-window (deleted)", vcpu, "/secretmem (deleted)"}, memory.Secret, attach.ViaWindow},
		{[]string{vcpu, "/dev/mem"}, memory.Reserved, attach.Direct},
		{[]string{"", "/memfd:offmap-ram (deleted)"}, "", ""},
	} {
		var areas []area
		for _, p := range c.paths {
			areas = append(areas, area{Path: p})
		}
		got, ok := identify(areas)
		if ok != (c.backend != "") || got.Backend != c.backend || got.Attach != c.attach {
			t.Errorf("%q: %v, %v", c.paths, got, ok)
		}
	}
	if c, err := Identify(os.Getpid()); err == nil {
		t.Errorf("this test is a guest with %v", c)
	}
}
