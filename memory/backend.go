package memory

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"offmap/internal/process/sandbox"
	"offmap/internal/process/unavailable"
)

// Backend says where guest RAM is at rest. The zero value stands for Secret.
type Backend string

// The backends. Reserved, Removed and Secret are not in the host kernel's direct map;
// the others are ordinary memory, which the kernel can read through it.
const (
	Anon       Backend = "anon"        // private anonymous memory
	Memfd      Backend = "memfd"       // memfd_create(2): shared memory of a tmpfs file
	Hugetlb    Backend = "hugetlb"     // memfd_create(2) with huge pages of 2 MiB
	GuestMemfd Backend = "guest-memfd" // KVM_CREATE_GUEST_MEMFD: memory of one VM
	Reserved   Backend = "reserved"    // physical memory that the kernel was booted without
	Removed    Backend = "removed"     // physical memory that the kernel has let go of at run time
	Secret     Backend = "secret"      // memfd_secret(2)
)

// backend is the data in which backends differ. All of them are
// mapped, bounds-checked, counted and freed in the same way.
type backend struct {
	name Backend
	// open makes the file behind the memory, of size bytes; nil means no file.
	open  func(size uint64) (file, error)
	flags int // mmap flags
	// page is the size of its pages in bytes, a power of two.
	page uint64
	// room names the field of /proc/meminfo that limits its size; ""
	// where open checks the size itself.
	room string
	// swapped says that the kernel may swap the pages out.
	swapped bool
	// exposed says that the pages are in the host's direct map.
	exposed bool
	// locked says that the pages count against RLIMIT_MEMLOCK.
	locked bool
	// carved says that the memory isn't the kernel's: all of it exists before
	// and after.
	carved bool
	// dirty says that nobody clears it but RAM.
	dirty bool
	// refused explains mmap's refusal of size bytes; nil if the errno says
	// enough.
	refused func(size uint64, err error) error
}

// file is memory to map: size bytes of fd from offset on.
type file struct {
	fd     int
	offset int64
}

var backends = []backend{
	{name: Anon, flags: unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE, page: PageSize, room: memTotal, swapped: true, exposed: true},
	{name: Memfd, open: openMemfd, flags: unix.MAP_SHARED | unix.MAP_NORESERVE, page: PageSize, room: memTotal, swapped: true, exposed: true},
	// Without MAP_NORESERVE mmap sets the huge pages aside, or is refused: a
	// touch can't be a SIGBUS later.
	{name: Hugetlb, open: openHugetlb, flags: unix.MAP_SHARED, page: hugePage, room: memTotal, exposed: true, refused: hugetlbRefused},
	{name: GuestMemfd, open: openOwnGuestMemfd, flags: unix.MAP_SHARED, page: PageSize, room: memAvailable, exposed: true},
	{name: Reserved, open: openReserved, flags: unix.MAP_SHARED, page: PageSize, carved: true, dirty: true, refused: reservedRefused},
	{name: Removed, open: openRemoved, flags: unix.MAP_SHARED, page: hugePage, carved: true},
	{name: Secret, open: openSecret, flags: unix.MAP_SHARED, page: PageSize, room: memAvailable, locked: true, refused: secretRefused},
}

// ErrUnavailable is what every error of this module is, for errors.Is, that says
// that this host lacks something as it is set up now: KVM, a backend, an attach,
// or a system call that is refused by what confines this process. Other errors
// say that something went wrong. The text says what to do about it.
var ErrUnavailable = unavailable.Err

// lacking returns an error for a backend to wrap that is ErrUnavailable, and
// names what would help.
func lacking(needs string) error { return unavailable.New(ErrUnavailable.Error(), needs) }

// Backends returns the names of all backends.
func Backends() []Backend {
	names := make([]Backend, len(backends))
	for i, b := range backends {
		names[i] = b.name
	}
	return names
}

// String returns the name.
func (b Backend) String() string {
	if b == "" {
		b = Secret
	}
	return string(b)
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
	for _, d := range backends {
		if d.name == Backend(b.String()) {
			return d, nil
		}
	}
	return backend{}, fmt.Errorf("unknown backend %q", string(b))
}

func openMemfd(size uint64) (file, error) { return memfd(size, 0) }

// memfd makes a file of memfd_create(2) with more flags.
func memfd(size uint64, flags int) (file, error) {
	fd, err := unix.MemfdCreate("offmap-ram", unix.MFD_CLOEXEC|flags)
	if err != nil {
		return file{}, sandbox.Judge("memfd_create", err)
	}
	return sized(fd, size)
}

// sized gives a new file its size, or closes it.
func sized(fd int, size uint64) (file, error) {
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		unix.Close(fd)
		return file{}, fmt.Errorf("ftruncate of guest memory to %d bytes: %w", size, err)
	}
	return file{fd: fd}, nil
}

// openOwnGuestMemfd refuses: New has no VM to make the file. NewFrom is given one.
func openOwnGuestMemfd(uint64) (file, error) {
	return file{}, fmt.Errorf("backend %s: the memory is a VM's own, and there is no VM here: %w", GuestMemfd, lacking("a VM"))
}
