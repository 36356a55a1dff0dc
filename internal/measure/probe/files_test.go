package probe

import (
	"bytes"
	"compress/gzip"
	"strings"
	"testing"
	"testing/fstest"
)

// tree makes a file system of paths and what is in them, in turn.
func tree(files ...string) fstest.MapFS {
	m := fstest.MapFS{}
	for i := 0; i+1 < len(files); i += 2 {
		m[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	return m
}

func zipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestChecksOfFiles gives the checks that read files hosts of all kinds.
func TestChecksOfFiles(t *testing.T) {
	const (
		shmem  = shmemEnabled
		noexec = "proc/sys/vm/memfd_noexec"
		lock   = "sys/kernel/security/lockdown"
	)
	onFree := zipped(t, "CONFIG_SECRETMEM=y\nCONFIG_INIT_ON_FREE_DEFAULT_ON=y\n")
	notOnFree := zipped(t, "CONFIG_INIT_ON_ALLOC_DEFAULT_ON=y\n# CONFIG_INIT_ON_FREE_DEFAULT_ON is not set\n")
	for name, c := range map[string]struct {
		files  fstest.MapFS
		check  func(*host) Check
		status Status
		says   string // of detail and fix
	}{
		"swap: none":       {tree("proc/swaps", "Filename Type Size Used Priority\n"), (*host).swap, OK, "no swap"},
		"swap: a file":     {tree("proc/swaps", "Filename Type\n/swapfile file 1 0 -2\n"), (*host).swap, Warn, "sudo swapoff -a"},
		"swap: no /proc":   {tree(), (*host).swap, Skip, "/proc/swaps"},
		"thp: none":        {tree("sys/kernel/x", ""), (*host).hugeShmem, Skip, "no huge pages"},
		"thp: no /sys":     {tree(), (*host).hugeShmem, Skip, "no /sys"},
		"thp: never":       {tree(shmem, "always within_size advise [never] deny force\n"), (*host).hugeShmem, OK, "never"},
		"thp: always":      {tree(shmem, "[always] within_size advise never deny force\n"), (*host).hugeShmem, Warn, "echo never | sudo tee /sys/kernel/mm/transparent_hugepage/shmem_enabled"},
		"thp: force":       {tree(shmem, "always never [force]"), (*host).hugeShmem, Warn, "force"},
		"thp: garbage":     {tree(shmem, "[always"), (*host).hugeShmem, Skip, ""},
		"memfd: no /proc":  {tree(), (*host).memfdExec, Skip, "no /proc"},
		"memfd: old":       {tree("proc/sys/x", ""), (*host).memfdExec, OK, "can be executed"},
		"memfd: 0":         {tree(noexec, "0\n"), (*host).memfdExec, OK, ""},
		"memfd: forbidden": {tree(noexec, "2\n"), (*host).memfdExec, Warn, "vm.memfd_noexec=1"},

		"direct map: unknown": {tree("proc/meminfo", "MemTotal: 1 kB\n"), (*host).directMap, Skip, "DirectMap"},
		"direct map":          {tree("proc/meminfo", "DirectMap4k:  100 kB\nDirectMap2M:  200 kB\nDirectMap1G: 700 kB\n"), (*host).directMap, OK, "10 % 4k, 20 % 2M, 70 % 1G"},
		"direct map: garbage": {tree("proc/meminfo", "DirectMap4k:\nDirectMap2M: x kB\n\n"), (*host).directMap, Skip, ""},

		"init: unknown":           {tree(), (*host).initOnFree, Skip, "init_on_alloc is unknown"},
		"init: by parameter":      {tree("proc/cmdline", "quiet init_on_free=1"), (*host).initOnFree, OK, "wiped as it is freed"},
		"init: off by parameter":  {tree("proc/cmdline", "init_on_free=0", "proc/config.gz", onFree), (*host).initOnFree, Warn, "init_on_free=1"},
		"init: last word":         {tree("proc/cmdline", "init_on_free=0 init_on_free=on"), (*host).initOnFree, OK, ""},
		"init: not the kernel's":  {tree("proc/cmdline", "quiet -- init_on_free=1"), (*host).initOnFree, Skip, ""},
		"init: configured":        {tree("proc/config.gz", onFree), (*host).initOnFree, OK, "init_on_alloc is off"},
		"init: not configured":    {tree("proc/config.gz", notOnFree), (*host).initOnFree, Warn, "init_on_alloc is on"},
		"init: from /boot":        {tree("boot/config-"+release(), "CONFIG_INIT_ON_FREE_DEFAULT_ON=y"), (*host).initOnFree, OK, ""},
		"init: broken config":     {tree("proc/config.gz", "no gzip"), (*host).initOnFree, Skip, ""},
		"init: truncated config":  {tree("proc/config.gz", onFree[:len(onFree)-9]), (*host).initOnFree, Skip, ""},
		"hibernation: none":       {tree("sys/kernel/x", ""), (*host).hibernation, OK, "can't hibernate"},
		"hibernation: no /sys":    {tree(), (*host).hibernation, Skip, "no /sys"},
		"hibernation: unused":     {tree("sys/power/disk", "[shutdown] reboot", "sys/power/resume", "0:0"), (*host).hibernation, OK, "no resume device"},
		"hibernation: set up":     {tree("sys/power/disk", "[shutdown] reboot", "sys/power/resume", "8:2"), (*host).hibernation, Warn, "resume device 8:2"},
		"hibernation: not now":    {tree("sys/power/disk", "[disabled]", "sys/power/resume", "8:2"), (*host).hibernation, OK, "not now"},
		"kdump: absent":           {tree("sys/kernel/x", ""), (*host).kdump, OK, "can't load"},
		"kdump: no /sys":          {tree(), (*host).kdump, Skip, "no /sys"},
		"kdump: none":             {tree("sys/kernel/kexec_crash_loaded", "0\n"), (*host).kdump, OK, "no crash kernel"},
		"kdump: loaded":           {tree("sys/kernel/kexec_crash_loaded", "1\n"), (*host).kdump, Warn, "kexec -p -u"},
		"lockdown: none":          {tree(lock, "[none] integrity confidentiality"), (*host).lockdown, OK, "off"},
		"lockdown: absent":        {tree("sys/kernel/security/lsm", "capability"), (*host).lockdown, OK, "off"},
		"lockdown: not mounted":   {tree("sys/kernel/security/x", ""), (*host).lockdown, Skip, "no /sys/kernel/security"},
		"lockdown: no choice":     {tree(lock, "none"), (*host).lockdown, Skip, "is \"none\""},
		"lockdown: integrity":     {tree(lock, "none [integrity] confidentiality"), (*host).lockdown, Warn, "signed"},
		"lockdown: more":          {tree(lock, "none integrity [confidentiality]"), (*host).lockdown, Warn, "nor can the audit"},
		"kcore: there":            {tree("proc/kcore", "ELF"), (*host).kcore, OK, "opens"},
		"kcore: absent":           {tree(), (*host).kcore, Warn, "open /proc/kcore: file does not exist"},
		"ptrace: no /proc":        {tree(), (*host).ptrace, Skip, "no /proc"},
		"ptrace: no Yama":         {tree("proc/sys/x", ""), (*host).ptrace, OK, "no Yama"},
		"ptrace: restricted":      {tree("proc/sys/kernel/yama/ptrace_scope", "1\n"), (*host).ptrace, OK, "scope is 1"},
		"ptrace: none":            {tree("proc/sys/kernel/yama/ptrace_scope", "3\n"), (*host).ptrace, OK, "nobody"},
		"flavour: without KVM":    {tree(), (*host).flavour, Skip, "no KVM"},
		"native: without KVM":     {tree(), func(h *host) Check { return h.native(t.Context()) }, Skip, "no KVM"},
		"guard: without KVM":      {tree(), (*host).guard, Skip, "no KVM"},
		"guest-memfd without KVM": {tree(), (*host).guestMemfd, Skip, "no KVM"},
	} {
		t.Run(name, func(t *testing.T) {
			h := &host{files: files{c.files}}
			got := c.check(h)
			if got.Status != c.status || !strings.Contains(got.Detail+"\n"+got.Fix, c.says) {
				t.Errorf("%+v, want %s and %q", got, c.status, c.says)
			}
			if got.Detail == "" || (got.Fix != "") != (got.Status == Warn || got.Status == Fail) {
				t.Errorf("%+v: says nothing, or a fix too many or too few", got)
			}
		})
	}
}

// TestAutoInitLog takes what the kernel said over what it was told.
func TestAutoInitLog(t *testing.T) {
	for log, want := range map[string]Status{
		"[    0.1] mem auto-init: stack:off, heap alloc:on, heap free:off\n[    0.2] heap free:on": Warn,
		"[    0.1] mem auto-init: stack:all(zero), heap alloc:off, heap free:on\n":                 OK,
		"[    0.1] mem auto-init: clearing system memory may take some time...":                    OK,
	} {
		h := &host{files: files{tree("proc/cmdline", "init_on_free=1")}, log: log}
		if got := h.initOnFree(); got.Status != want {
			t.Errorf("%q: %+v, want %s", log, got, want)
		}
	}
}

// FuzzFiles gives the parsers anything.
func FuzzFiles(f *testing.F) {
	f.Add("DirectMap4k: 1 kB\n", "a=b memmap=1$2", "[x]")
	f.Fuzz(func(t *testing.T, meminfo, cmdline, word string) {
		h := &host{files: files{tree("proc/meminfo", meminfo, "proc/cmdline", cmdline, shmemEnabled, word,
			"proc/config.gz", word, "sys/kernel/security/lockdown", word)}}
		for _, check := range []func(*host) Check{
			(*host).directMap, (*host).initOnFree, (*host).hugeShmem, (*host).lockdown,
		} {
			if c := check(h); c.Detail == "" {
				t.Errorf("%s says nothing", c.Name)
			}
		}
	})
}
