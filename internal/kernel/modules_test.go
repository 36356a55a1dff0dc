package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakeModule is an ELF file with nothing but a .modinfo section.
func fakeModule(depends string) []byte {
	modinfo := "license=GPL\x00depends=" + depends + "\x00name=x\x00"
	names := "\x00.modinfo\x00.shstrtab\x00"
	const head = 64
	order := binary.LittleEndian
	h := elf.Header64{
		Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1,
		Shoff: uint64(head + len(modinfo) + len(names)), Ehsize: head, Shentsize: 64, Shnum: 3, Shstrndx: 2,
	}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	var b bytes.Buffer
	binary.Write(&b, order, h)
	b.WriteString(modinfo + names)
	binary.Write(&b, order, []elf.Section64{
		{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: head, Size: uint64(len(modinfo)), Addralign: 1},
		{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: uint64(head + len(modinfo)), Size: uint64(len(names)), Addralign: 1},
	})
	return b.Bytes()
}

// moduleTree makes a lib/modules/RELEASE of modules (path: what it depends
// on) and built-in ones.
func moduleTree(t *testing.T, modules map[string]string, builtin ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "1.2.3-test")
	if err := os.MkdirAll(filepath.Join(dir, "kernel"), 0o755); err != nil {
		t.Fatal(err)
	}
	var order []string
	for path, depends := range modules {
		order = append(order, "kernel/"+path)
		path = filepath.Join(dir, "kernel", path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, fakeModule(depends), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for file, list := range map[string][]string{"modules.order": order, "modules.builtin": builtin} {
		text := strings.Join(list, "\n") + "\n"
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestModules(t *testing.T) {
	kvm := map[string]string{
		"arch/x86/kvm/kvm.ko":         "irqbypass",
		"arch/x86/kvm/kvm-amd.ko":     "kvm,ccp",
		"virt/lib/irqbypass.ko":       "",
		"drivers/crypto/ccp/ccp.ko":   "",
		"drivers/virtio/v_pci.ko":     "v-ring,v",
		"drivers/virtio/v-ring.ko":    "v",
		"drivers/virtio/unrelated.ko": "missing",
	}
	tests := []struct {
		name    string
		modules map[string]string
		builtin []string
		want    []string
		order   []string // files, without directory
		err     string
	}{
		{"dependencies come first", kvm, []string{"kernel/drivers/virtio/v.ko"}, []string{"v_pci", "kvm_amd"},
			[]string{"v-ring.ko", "v_pci.ko", "irqbypass.ko", "kvm.ko", "ccp.ko", "kvm-amd.ko"}, ""},
		{"dashes and underscores are the same", kvm, nil, []string{"kvm-amd"},
			[]string{"irqbypass.ko", "kvm.ko", "ccp.ko", "kvm-amd.ko"}, ""},
		{"built in", nil, []string{"kernel/fs/fuse/fuse.ko"}, []string{"fuse"}, nil, ""},
		{"each once", kvm, nil, []string{"kvm", "irqbypass", "kvm"}, []string{"irqbypass.ko", "kvm.ko"}, ""},
		{"none such", kvm, nil, []string{"kvm_arm"}, nil, "kernel 1.2.3-test has no module kvm_arm"},
		{"a dependency is missing", kvm, nil, []string{"unrelated"}, nil, "no module missing, which unrelated needs"},
		{"a circle", map[string]string{"a.ko": "b", "b.ko": "a"}, nil, []string{"a"}, nil, "depends on itself"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := Installed(moduleTree(t, tt.modules, tt.builtin...))
			if err != nil {
				t.Fatal(err)
			}
			got, err := m.Files(tt.want...)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var order []string
			for _, path := range got {
				order = append(order, filepath.Base(path))
			}
			if diff := cmp.Diff(tt.order, order); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestDependenciesOfSomethingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.ko")
	if err := os.WriteFile(path, []byte("not a module"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := dependencies(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v, want one that names %s", err, path)
	}
}
