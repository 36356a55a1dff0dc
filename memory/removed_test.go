package memory

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"

	"offmap/internal/abitest"
	"offmap/memory/kmod"
)

// TestRemovedABI holds the request numbers against the header that the module is built
// from.
func TestRemovedABI(t *testing.T) {
	header, err := kmod.Sources.ReadFile("offmap.h")
	if err != nil {
		t.Fatal(err)
	}
	abitest.Compare(t, string(header), append([]abitest.Entry{
		{C: "OFFMAP_IOC_REMOVE", Want: removedRemove},
		{C: "OFFMAP_IOC_ALLOC", Want: removedAlloc},
		{C: "OFFMAP_IOC_POOL", Want: removedGetPool},
		{C: "OFFMAP_IOC_RESTORE", Want: removedRestore},
	}, removedABI()...))
}

const block = 128 << 20

// blocksOf is a /sys with these blocks of 128 MiB: state and valid zones of each.
func blocksOf(blocks map[string]string) fstest.MapFS {
	sys := fstest.MapFS{blocksDir + "/block_size_bytes": {Data: []byte("8000000\n")}, blocksDir + "/power/control": {Data: []byte("auto\n")}}
	for name, text := range blocks {
		state, zones, _ := strings.Cut(text, " ")
		sys[blocksDir+"/"+name+"/state"] = &fstest.MapFile{Data: []byte(state + "\n")}
		sys[blocksDir+"/"+name+"/valid_zones"] = &fstest.MapFile{Data: []byte(zones + "\n")}
	}
	return sys
}

func TestMemoryBlocks(t *testing.T) {
	sys := blocksOf(map[string]string{
		"memory0": "online DMA32", "memory9": "online Normal", "memory10": "online Normal", "memory11": "offline Normal Movable",
		"memory8": "online Movable", "memory7": "online Movable", "memoryx": "online Normal",
	})
	check := func(what string, cpus *unix.CPUSet, want ...uint64) {
		t.Helper()
		got, err := memoryBlocks(sys, cpus)
		if err != nil {
			t.Fatal(err)
		}
		var order []uint64
		for _, b := range got {
			order = append(order, b.Start/block)
			if b.Size != block {
				t.Errorf("%+v", b)
			}
		}
		if !slices.Equal(order, want) {
			t.Errorf("%s: blocks %v, want %v", what, order, want)
		}
	}
	var one, both unix.CPUSet
	one.Set(1)
	both.Set(0)
	both.Set(1)
	check("no nodes", &one, 8, 7, 10, 9, 0)
	link := &fstest.MapFile{Mode: fs.ModeSymlink}
	for path, node := range map[string]string{
		"cpu/cpu0": "node0", "cpu/cpu1": "node1", "memory/memory0": "node0", "memory/memory7": "node1",
		"memory/memory8": "node0", "memory/memory9": "node1", "memory/memory10": "node0",
	} {
		sys["devices/system/"+path+"/"+node] = link
	}
	check("on node 1", &one, 7, 8, 9, 10, 0)
	check("on both nodes", &both, 8, 7, 10, 9, 0)
	if _, err := memoryBlocks(fstest.MapFS{}, &one); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a kernel without blocks: %v", err)
	}
	if _, err := memoryBlocks(fstest.MapFS{blocksDir + "/block_size_bytes": {Data: []byte("0\n")}}, &one); err == nil {
		t.Error("blocks of no size")
	}
}

func TestBlocksLeftOffline(t *testing.T) {
	for policy, want := range map[string]bool{"offline\n": true, "online\n": false, "online_kernel\n": false} {
		fix, left := BlocksLeftOffline(fstest.MapFS{blocksDir + "/auto_online_blocks": {Data: []byte(policy)}})
		if left != want || !strings.Contains(fix, "auto_online_blocks") {
			t.Errorf("%q: %v, %q", policy, left, fix)
		}
	}
	if _, left := BlocksLeftOffline(fstest.MapFS{}); left {
		t.Error("left offline by a kernel that doesn't say so")
	}
}

// TestTakeBlocks has blocks refused in every way.
func TestTakeBlocks(t *testing.T) {
	gib := func(first uint64) (bs []memoryBlock) {
		for i := range uint64(8) {
			bs = append(bs, memoryBlock{PhysRange{first<<30 + (7-i)*block, block}, 1})
		}
		return bs
	}
	one := []memoryBlock{{PhysRange{20 * block, block}, 1}}
	for _, c := range []struct {
		name   string
		blocks []memoryBlock
		want   uint64
		refuse func(PhysRange) error
		took   uint64
		asked  []PhysRange
	}{
		{"one", gib(1), block, nil, block, []PhysRange{{1<<30 + 7*block, block}}},
		{"a part of one", gib(1), 1, nil, block, []PhysRange{{1<<30 + 7*block, block}}},
		{"none", nil, 1, nil, 0, nil},
		{"busy, and the next one", gib(1), block, func(r PhysRange) error {
			if r.Start == 1<<30+7*block {
				return unix.EBUSY
			}
			return nil
		}, block, []PhysRange{{1<<30 + 7*block, block}, {1<<30 + 6*block, block}}},
		{"no more", gib(1), block, func(PhysRange) error { return unix.EDQUOT }, 0, []PhysRange{{1<<30 + 7*block, block}}},
		{"larger entries", slices.Concat(one, gib(1)), block, func(r PhysRange) error {
			if r.Size < 1<<30 {
				return unix.EOPNOTSUPP
			}
			return nil
		}, 1 << 30, []PhysRange{one[0].PhysRange, {1<<30 + 7*block, block}, {1 << 30, 1 << 30}}},
		{"larger entries, one busy", slices.Concat(gib(2), gib(1)), block, func(r PhysRange) error {
			if r.Size < 1<<30 {
				return unix.EOPNOTSUPP
			}
			if r.Start == 2<<30 {
				return unix.EBUSY
			}
			return nil
		}, 1 << 30, []PhysRange{{2<<30 + 7*block, block}, {2 << 30, 1 << 30}, {1<<30 + 7*block, block}, {1 << 30, 1 << 30}}},
	} {
		var asked []PhysRange
		took := takeBlocks(c.blocks, c.want, block, func(r PhysRange) error {
			asked = append(asked, r)
			if c.refuse == nil {
				return nil
			}
			return c.refuse(r)
		})
		if took != c.took || !slices.Equal(asked, c.asked) {
			t.Errorf("%s: took %d MiB of %v, want %d of %v", c.name, took>>20, asked, c.took>>20, c.asked)
		}
	}
}

func TestRemovedRefusals(t *testing.T) {
	var r removedRefusals
	for _, err := range []error{nil, unix.EBUSY, unix.EBUSY, unix.EOPNOTSUPP, unix.EDQUOT} {
		r.add(PhysRange{0, block}, err)
	}
	err := r.explain(1<<30, RemovedPool{Limit: 512 << 20, Free: 64 << 20}, block)
	for _, want := range []string{"1024 MiB are wanted, 64 are in the pool, and 128 more", "256 MiB hold pages that it can't move, or are below its image", "128 MiB are in entries of 1 GiB", "512 MiB may be: module parameter removed_max"} {
		if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v doesn't say %q", err, want)
		}
	}
}

// removedFile opens the device, where there is one.
func removedFile(t *testing.T) int {
	t.Helper()
	fd, err := openRemovedDevice()
	if errors.Is(err, ErrUnavailable) {
		t.Skipf("NOT TESTED: %v: run in the lab", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// allocated is an open device with memory, and a mapping of it.
func allocated(t *testing.T, size uint64) (fd int, mem []byte) {
	t.Helper()
	fd = removedFile(t)
	err := fillRemoved(fd, size)
	if errors.Is(err, ErrUnavailable) {
		t.Skipf("SKIPPED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	mem, err = unix.Mmap(fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	return fd, mem
}

// onlineBlocks has the kernel use what is given back to it, for the time of the test.
func onlineBlocks(t *testing.T) {
	t.Helper()
	const file = "/sys/" + blocksDir + "/auto_online_blocks"
	had, err := os.ReadFile(file)
	if err != nil {
		return
	}
	if err := os.WriteFile(file, []byte("online"), 0); err != nil {
		t.Skipf("NOT TESTED: %v", err)
	}
	t.Cleanup(func() { os.WriteFile(file, had, 0) })
}

// directMap is what /proc/meminfo says of the direct map, in bytes.
func directMap(t *testing.T) map[string]uint64 {
	t.Helper()
	info, err := ReadMeminfo()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]uint64{}
	for _, size := range []string{"DirectMap4k", "DirectMap2M", "DirectMap1G"} {
		got[size] = info[size]
	}
	return got
}

func TestRemovedRefuses(t *testing.T) {
	fd := removedFile(t)
	pool, err := removedPool(fd)
	if err != nil {
		t.Fatal(err)
	}
	b := pool.Block
	for _, c := range []struct {
		name string
		PhysRange
		want error
	}{
		{"nothing", PhysRange{b, 0}, unix.EINVAL},
		{"a part of a block", PhysRange{b, b / 2}, unix.EINVAL},
		{"not from a block's start", PhysRange{b / 2, b}, unix.EINVAL},
		{"past the last address", PhysRange{-b, 2 * b}, unix.EINVAL},
		{"more than may be", PhysRange{0, (pool.Limit/b + 1) * b}, unix.EDQUOT},
		{"no RAM", PhysRange{1 << 45 / b * b, b}, unix.EINVAL},
		{"what is below the kernel's image", PhysRange{0, b}, unix.EBUSY},
	} {
		if err := removeRange(fd, c.PhysRange); err != c.want {
			t.Errorf("remove %s: %v, want %v", c.name, err, c.want)
		}
	}
	for _, c := range []struct {
		name string
		allocRequest
		want error
	}{
		{"flags", allocRequest{flags: 1, len: PageSize}, unix.EINVAL},
		{"reserved", allocRequest{reserved: 1, len: PageSize}, unix.EINVAL},
		{"nothing", allocRequest{}, unix.EINVAL},
		{"a part of a page", allocRequest{len: PageSize + 1}, unix.EINVAL},
		{"more than there is", allocRequest{len: pool.Free + PageSize}, unix.ENOSPC},
		{"more than may be", allocRequest{len: 1 << 62}, unix.ENOSPC},
		{"everything", allocRequest{len: -PageSize & (1<<64 - 1)}, unix.ENOSPC},
	} {
		if err := allocRequested(fd, &c.allocRequest); err != c.want {
			t.Errorf("alloc %s: %v, want %v", c.name, err, c.want)
		}
	}
	if err := removedIoctl(fd, removedRestore+1, nil); err != unix.ENOTTY {
		t.Errorf("unknown ioctl: %v", err)
	}
	if _, err := unix.MmapPtr(fd, 0, nil, PageSize, unix.PROT_READ, unix.MAP_SHARED); err != unix.ENXIO {
		t.Errorf("mmap before alloc: %v", err)
	}
	if after, err := removedPool(fd); err != nil || after != pool {
		t.Errorf("the pool was %+v, and is %+v, %v", pool, after, err)
	}
}

func TestRemovedMmapRefuses(t *testing.T) {
	onlineBlocks(t)
	const size = 4*hugePage - PageSize
	fd, mem := allocated(t, size)
	defer unix.Munmap(mem)
	if err := allocRemoved(fd, size); err != unix.EBUSY {
		t.Errorf("second alloc: %v", err)
	}
	const rw = unix.PROT_READ | unix.PROT_WRITE
	for _, c := range []struct {
		name        string
		off, size   int64
		prot, flags int
		want        error
	}{
		{"all", 0, size, rw, unix.MAP_SHARED, nil},
		{"the end", size - PageSize, PageSize, rw, unix.MAP_SHARED, nil},
		{"from within a chunk", PageSize, hugePage, rw, unix.MAP_SHARED | unix.MAP_POPULATE, nil},
		{"private", 0, PageSize, rw, unix.MAP_PRIVATE, unix.EINVAL},
		{"private for reading", 0, PageSize, unix.PROT_READ, unix.MAP_PRIVATE, unix.EINVAL},
		{"executable", 0, PageSize, rw | unix.PROT_EXEC, unix.MAP_SHARED, unix.EPERM},
		{"the chunk's rest", 0, size + PageSize, rw, unix.MAP_SHARED, unix.ENXIO},
		{"beyond the end", size, PageSize, rw, unix.MAP_SHARED, unix.ENXIO},
		{"far beyond the end", 1 << 62, PageSize, rw, unix.MAP_SHARED, unix.ENXIO},
		{"at the last offset", -2 * PageSize, PageSize, rw, unix.MAP_SHARED, unix.ENXIO},
	} {
		p, err := unix.MmapPtr(fd, c.off, nil, uintptr(c.size), c.prot, c.flags)
		if err == nil {
			unix.MunmapPtr(p, uintptr(c.size))
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	// Nothing pins its pages, nor reads them for another process.
	mem[0] = 1
	self, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	if _, err := self.ReadAt(make([]byte, 8), addressOf(mem)); !errors.Is(err, unix.EIO) {
		t.Errorf("/proc/self/mem: %v, want %v", err, unix.EIO)
	}
	if _, err := self.ReadAt(make([]byte, 8), addressOf(make([]byte, 8))); err != nil {
		t.Errorf("control: %v", err)
	}
}

// TestRemovedCycle takes memory out of the kernel and gives it back. It is zero each
// time that somebody is given it, /dev/mem can't have it, and of the direct map nothing
// is lost, nor is any of it in smaller pieces.
func TestRemovedCycle(t *testing.T) {
	onlineBlocks(t)
	probe := removedFile(t)
	if err := restoreRemoved(probe); err != nil {
		t.Fatal(err)
	}
	before := directMap(t)
	pool, err := removedPool(probe)
	if err != nil || pool.Removed != 0 {
		t.Fatalf("%+v, %v", pool, err)
	}
	const size = 40 << 20
	for round := range 3 {
		fd, mem := allocated(t, size)
		for i, b := range mem {
			if b != 0 {
				t.Fatalf("round %d: byte %d is %#x", round, i, b)
			}
		}
		for i := range mem {
			mem[i] = byte(i>>12) | 1
		}
		during := directMap(t)
		if during["DirectMap4k"] != before["DirectMap4k"] || during["DirectMap2M"]+during["DirectMap1G"] >= before["DirectMap2M"]+before["DirectMap1G"] {
			t.Errorf("round %d: the direct map was %v, and is %v", round, before, during)
		}
		if err := restoreRemoved(fd); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		if p, err := removedPool(fd); err != nil || p.Removed-p.Free < size {
			t.Errorf("round %d: in use is the pool %+v, %v", round, p, err)
		}
		unix.Close(fd) // the mapping keeps it
		for i := range mem {
			if mem[i] != byte(i>>12)|1 {
				t.Fatalf("round %d: byte %d was lost", round, i)
			}
		}
		checkDevMem(t)
		unix.Munmap(mem)
		if round > 0 { // in the first one, what is handed out again comes from the pool
			if err := restoreRemoved(probe); err != nil {
				t.Fatal(err)
			}
			if after := directMap(t); after["DirectMap4k"] != before["DirectMap4k"] || after["DirectMap2M"] != before["DirectMap2M"] || after["DirectMap1G"] != before["DirectMap1G"] {
				t.Errorf("round %d: the direct map was %v, and is %v", round, before, after)
			}
		}
	}
}

// checkDevMem holds that /dev/mem refuses what is removed.
func checkDevMem(t *testing.T) {
	t.Helper()
	iomem, err := os.ReadFile("/proc/iomem")
	if err != nil {
		t.Fatal(err)
	}
	dev, err := os.Open(devMem)
	if err != nil {
		t.Logf("/dev/mem: %v", err)
		return
	}
	defer dev.Close()
	seen := false
	for _, r := range parseIomem(string(iomem)) {
		if r.name != "offmap removed" {
			continue
		}
		seen = true
		if _, err := dev.ReadAt(make([]byte, PageSize), int64(r.Start)); !errors.Is(err, unix.EPERM) {
			t.Errorf("/dev/mem at %#x: %v, want %v", r.Start, err, unix.EPERM)
		}
	}
	if !seen {
		t.Errorf("/proc/iomem lists nothing removed:\n%s", iomem)
	}
}
