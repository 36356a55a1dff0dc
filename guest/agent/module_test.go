package agent

import (
	"slices"
	"testing"
)

func TestModuleParameters(t *testing.T) {
	const line = "quiet kvm-amd.npt=0 kvm_amd.nested kvm.halt_poll_ns=0 kvm_amd=1 .x kvm_amd.avic=1 root=/dev/vda\n"
	for _, c := range []struct {
		file string
		want []string
	}{
		{"/modules/003-kvm-amd.ko", []string{"npt=0", "nested", "avic=1"}},
		{"/lib/modules/6.1/kernel/kvm.ko", []string{"halt_poll_ns=0"}},
		{"/lib/modules/6.1/extra/offmap.ko", nil},
		{"/modules/000-kvm.ko.xz", []string{"halt_poll_ns=0"}},
		{"/modules/dm-mod.ko", nil},
	} {
		if got := moduleParameters(line, moduleName(c.file)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.file, got, c.want)
		}
	}
}
