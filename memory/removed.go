package memory

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// RemovedDevice is the device that memory of Removed comes from, one of offmap.ko's. The
// module has a pool of whole memory blocks, which the kernel has let go of as of memory
// that is about to be unplugged (Documentation/admin-guide/mm/memory-hotplug.rst). A file
// of the device is given memory of the pool. Which blocks the kernel is to let go of is
// decided here. See memory/kmod/offmap.h.
const RemovedDevice = "/dev/offmap-removed"

// blocksDir is where the kernel lists its memory blocks.
const blocksDir = "devices/system/memory"

// memoryBlock is a block of the kernel's RAM.
type memoryBlock struct {
	PhysRange
	rank int // 0 in zone Movable, else 2; and 1 more on another node than this process's
}

// openRemoved makes a file of size bytes of the pool, and first takes as many more
// blocks out of the kernel as that needs.
func openRemoved(size uint64) (file, error) {
	fd, err := openRemovedDevice()
	if err != nil {
		return file{}, fmt.Errorf("backend %s: %w", Removed, err)
	}
	if err := fillRemoved(fd, size); err != nil {
		unix.Close(fd)
		return file{}, fmt.Errorf("backend %s: %w", Removed, err)
	}
	return file{fd: fd}, nil
}

func openRemovedDevice() (int, error) {
	fd, err := unix.Open(RemovedDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENXIO) {
		return -1, fmt.Errorf("%w: offmap.ko isn't loaded (sudo modprobe offmap): open %s: %w", lacking("offmap.ko, and root"), RemovedDevice, err)
	}
	if err != nil {
		return -1, fmt.Errorf("%w: it takes root: open %s: %w", lacking("root"), RemovedDevice, err)
	}
	return fd, nil
}

// ReadRemovedPool says what is in the pool of RemovedDevice.
func ReadRemovedPool() (RemovedPool, error) {
	fd, err := openRemovedDevice()
	if err != nil {
		return RemovedPool{}, err
	}
	defer unix.Close(fd)
	return removedPool(fd)
}

// BlocksLeftOffline reports whether this kernel doesn't use memory that is given back to
// it until somebody tells it to (auto_online_blocks), and the command that changes that.
// sys is /sys.
func BlocksLeftOffline(sys fs.FS) (fix string, left bool) {
	file := path.Join(blocksDir, "auto_online_blocks")
	policy, err := readField(sys, file)
	return "echo online | sudo tee /sys/" + file, err == nil && policy == "offline"
}

// fillRemoved gives the open device its memory.
func fillRemoved(fd int, size uint64) error {
	for {
		err := allocRemoved(fd, size)
		if !errors.Is(err, unix.ENOSPC) {
			return os.NewSyscallError("ioctl OFFMAP_IOC_ALLOC", err)
		}
		// Another process may take what this one adds, so it may take several rounds.
		if err := growPool(fd, size); err != nil {
			return err
		}
	}
}

// growPool takes blocks out of the kernel until size bytes of the pool are free.
func growPool(fd int, size uint64) error {
	sys := os.DirFS("/sys")
	if fix, left := BlocksLeftOffline(sys); left {
		return fmt.Errorf("%w: this kernel leaves memory that is given back to it unused: %s", lacking("boot parameter memhp_default_state=online"), fix)
	}
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return os.NewSyscallError("sched_getaffinity", err)
	}
	blocks, err := memoryBlocks(sys, &allowed)
	if err != nil {
		return err
	}
	pool, err := removedPool(fd)
	if err != nil || pool.Free >= size {
		return err
	}
	var refused removedRefusals
	took := takeBlocks(blocks, size-pool.Free, pool.Block, func(r PhysRange) error {
		err := removeRange(fd, r)
		refused.add(r, err)
		return err
	})
	if took < size-pool.Free {
		restoreRemoved(fd) // what it took is of no use
		return refused.explain(size, pool, took)
	}
	return nil
}

// removedRefusals is what blocks weren't removed, by reason.
type removedRefusals struct {
	busy, larger uint64 // bytes
	last         error  // for another reason
}

func (r *removedRefusals) add(p PhysRange, err error) {
	switch {
	case err == nil:
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EINVAL): // a block with a hole
		r.busy += p.Size
	case errors.Is(err, unix.EOPNOTSUPP):
		r.larger += p.Size
	default:
		r.last = err
	}
}

// explain says why no more than took bytes could be taken.
func (r *removedRefusals) explain(size uint64, pool RemovedPool, took uint64) error {
	text := fmt.Sprintf("%d MiB are wanted, %d are in the pool, and %d more could be taken out of the kernel", size>>20, pool.Free>>20, took>>20)
	if r.busy > 0 {
		text += fmt.Sprintf("; %d MiB hold pages that it can't move, or are below its image or its crash kernel", r.busy>>20)
	}
	if r.larger > 0 {
		text += fmt.Sprintf("; %d MiB are in entries of 1 GiB of its direct map, of which it can't remove a part", r.larger>>20)
	}
	if errors.Is(r.last, unix.ENODEV) {
		text += "; the module can't clear memory that the host encrypts (mem_encrypt=)"
	} else if errors.Is(r.last, unix.EDQUOT) {
		text += fmt.Sprintf("; no more than %d MiB may be: module parameter removed_max", pool.Limit>>20)
	} else if r.last != nil {
		text += "; " + r.last.Error()
	}
	return fmt.Errorf("%w: %s", lacking("RAM that the kernel can do without"), text)
}

// takeBlocks takes blocks of at least want bytes, one by one, and returns how many bytes
// it took. Where the direct map has larger entries, it takes all the blocks of one. It
// ends at a refusal that the next block would meet too.
func takeBlocks(blocks []memoryBlock, want, unit uint64, take func(PhysRange) error) (took uint64) {
	gone := map[uint64]bool{}
	for _, b := range blocks {
		if took >= want {
			break
		}
		if gone[b.Start] {
			continue
		}
		r := b.PhysRange
		err := take(r)
		if errors.Is(err, unix.EOPNOTSUPP) {
			if whole := entryAround(blocks, r, unit); whole.Size > r.Size {
				r = whole
				err = take(r)
			}
		}
		for at := r.Start; at < r.End(); at += unit {
			gone[at] = true
		}
		switch {
		case err == nil:
			took += r.Size
		case !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EINVAL):
			return took
		}
	}
	return took
}

// entryAround returns the 1 GiB of the direct map around a block, if all of it is blocks,
// and otherwise the block.
func entryAround(blocks []memoryBlock, r PhysRange, unit uint64) PhysRange {
	const entry = 1 << 30
	whole := PhysRange{Start: r.Start &^ (entry - 1), Size: entry}
	have := uint64(0)
	for _, b := range blocks {
		if b.Start >= whole.Start && b.End() <= whole.End() {
			have += b.Size
		}
	}
	if have != entry || unit >= entry {
		return r
	}
	return whole
}

// memoryBlocks lists the kernel's online blocks, first those that it can best do without:
// of zone Movable, which holds no pages that can't be moved. Next, those on nodes of the
// CPUs that this process may run on. And then from the highest address down, since devices
// and the kernel itself are found low.
func memoryBlocks(sys fs.FS, cpus *unix.CPUSet) ([]memoryBlock, error) {
	text, err := readField(sys, path.Join(blocksDir, "block_size_bytes"))
	if err != nil {
		return nil, fmt.Errorf("%w: this kernel can't remove memory: %w", lacking("CONFIG_MEMORY_HOTREMOVE"), err)
	}
	unit, err := strconv.ParseUint(text, 16, 64)
	if err != nil || unit == 0 {
		return nil, fmt.Errorf("%s/block_size_bytes: %q", blocksDir, text)
	}
	entries, err := fs.ReadDir(sys, blocksDir)
	if err != nil {
		return nil, err
	}
	local := localNodes(sys, cpus)
	var blocks []memoryBlock
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), "memory")
		n, err := strconv.ParseUint(number, 10, 32)
		if !ok || err != nil {
			continue
		}
		dir := path.Join(blocksDir, e.Name())
		state, _ := readField(sys, path.Join(dir, "state"))
		zones, _ := readField(sys, path.Join(dir, "valid_zones"))
		if state != "online" { // or it went meanwhile
			continue
		}
		rank := 2
		if zone, _, _ := strings.Cut(zones, " "); zone == "Movable" {
			rank = 0
		}
		if node := nodeIn(sys, dir); node != "" && !local[node] {
			rank++
		}
		blocks = append(blocks, memoryBlock{PhysRange{n * unit, unit}, rank})
	}
	slices.SortFunc(blocks, func(a, b memoryBlock) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(b.Start, a.Start))
	})
	return blocks, nil
}

// localNodes are the nodes of CPUs, by the names that the kernel has for them.
func localNodes(sys fs.FS, cpus *unix.CPUSet) map[string]bool {
	nodes := map[string]bool{}
	for cpu, left := 0, cpus.Count(); left > 0; cpu++ {
		if cpus.IsSet(cpu) {
			left--
			nodes[nodeIn(sys, fmt.Sprintf("devices/system/cpu/cpu%d", cpu))] = true
		}
	}
	return nodes
}

// nodeIn is the node of a CPU or a block, which its directory in /sys has a link to. It is
// "" where the kernel has no nodes (CONFIG_NUMA).
func nodeIn(sys fs.FS, dir string) string {
	entries, _ := fs.ReadDir(sys, dir)
	for _, e := range entries {
		if number, ok := strings.CutPrefix(e.Name(), "node"); ok {
			if _, err := strconv.ParseUint(number, 10, 31); err == nil {
				return e.Name()
			}
		}
	}
	return ""
}

func readField(fsys fs.FS, name string) (string, error) {
	b, err := fs.ReadFile(fsys, name)
	return strings.TrimSpace(string(b)), err
}
