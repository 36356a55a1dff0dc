package memory

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Backend says where guest RAM is at rest.
type Backend string

// The backends. Anon and Memfd are ordinary memory, which the host kernel can
// read through its direct map; Secret is not in it.
const (
	Anon   Backend = "anon"   // private anonymous memory
	Memfd  Backend = "memfd"  // memfd_create(2): shared memory of a tmpfs file
	Secret Backend = "secret" // memfd_secret(2)
)

// backend is what tells one backend from another: data, not code. All are
// mapped, bounds-checked, counted and freed in the same way.
type backend struct {
	name Backend
	// open makes the file behind the memory; nil means no file.
	open  func() (int, error)
	flags int // mmap flags
	// exposed says that the pages are in the host's direct map.
	exposed bool
	// locked says that the pages count against RLIMIT_MEMLOCK.
	locked bool
}

var backends = []backend{
	{name: Anon, flags: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE, exposed: true},
	{name: Memfd, open: openMemfd, flags: unix.MAP_SHARED | unix.MAP_NORESERVE, exposed: true},
	{name: Secret, open: openSecret, flags: unix.MAP_SHARED, locked: true},
}

// Backends returns the names of all backends.
func Backends() []Backend {
	names := make([]Backend, len(backends))
	for i, b := range backends {
		names[i] = b.name
	}
	return names
}

// ParseBackend returns the backend of that name.
func ParseBackend(name string) (Backend, error) {
	if slices.Contains(Backends(), Backend(name)) {
		return Backend(name), nil
	}
	var names []string
	for _, b := range Backends() {
		names = append(names, string(b))
	}
	return "", fmt.Errorf("unknown backend %q: have %s", name, strings.Join(names, ", "))
}

// Exposed reports whether the host kernel can read the backend's pages through
// its direct map.
func (b Backend) Exposed() bool {
	d, err := b.find()
	return err != nil || d.exposed
}

func (b Backend) find() (backend, error) {
	i := slices.IndexFunc(backends, func(d backend) bool { return d.name == b })
	if i < 0 {
		return backend{}, fmt.Errorf("unknown backend %q", string(b))
	}
	return backends[i], nil
}

// What memfd_secret(2) can be refused with. The kernel answers ENOSYS to both.
var (
	ErrSecretDisabled = errors.New("memfd_secret is switched off on this kernel: boot it with secretmem.enable=1 on the command line")
	ErrSecretAbsent   = errors.New("this kernel has no memfd_secret (it needs Linux 5.14 or newer, built with CONFIG_SECRETMEM)")
)

// openSecret makes the file of a secret memory area. The close-on-exec flag of
// memfd_secret is O_CLOEXEC; FD_CLOEXEC, as its man page has it, is EINVAL.
func openSecret() (int, error) {
	fd, err := unix.MemfdSecret(unix.O_CLOEXEC)
	if errors.Is(err, unix.ENOSYS) {
		return -1, secretMissing()
	}
	if err != nil {
		return -1, fmt.Errorf("memfd_secret: %w", err)
	}
	return fd, nil
}

// secretMissing tells a kernel that has memfd_secret switched off from one
// that doesn't have it: only the first has the parameter.
func secretMissing() error {
	if unix.Access("/sys/module/secretmem/parameters/enable", unix.F_OK) == nil {
		return ErrSecretDisabled
	}
	return ErrSecretAbsent
}

func openMemfd() (int, error) {
	fd, err := unix.MemfdCreate("offmap-ram", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	return fd, nil
}
