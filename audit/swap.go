package audit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// swap has the kernel write guest RAM to disk.
var swap = Avenue{
	Name: "swap", Attack: attackSwap,
	About: "has guest RAM swapped out, process_madvise(2) with MADV_PAGEOUT, and searches the swap devices (zswap is off for that time)",
}

func attackSwap(ctx context.Context, t Target) (f Finding, err error) {
	devices, err := swapDevices()
	if err != nil {
		return f, err
	}
	if len(devices) == 0 {
		return f, unavailable("no swap: swapon adds some; in the lab: --swap")
	}
	areas, err := t.areas()
	if err != nil {
		return f, err
	}
	// zswap, a cache in front of the devices, would keep the pages.
	restore, err := tune("/sys/module/zswap/parameters/enabled", "N")
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, restore()) }()
	// Pages that the guest doesn't touch again would stay on the devices, where
	// later attacks don't look. Reading a page swaps it in.
	defer func() {
		_, e := attackProcessVM(context.WithoutCancel(ctx), t)
		err = errors.Join(err, e)
	}()
	// Linux 6.1 doesn't reclaim a page that was used since the last call, which
	// it finds out from KVM's page tables in this call; 6.12 does.
	const passes = 4
	for range passes {
		refused, err := t.advise(ctx, areas, unix.MADV_PAGEOUT)
		f.refused(refused)
		if err != nil {
			return f, err
		}
	}
	out, err := t.swapped()
	if err != nil {
		return f, err
	}
	f.Detail = fmt.Sprintf("%d KiB of the VMM's memory were swapped out", out>>10)
	for _, d := range devices {
		if err := searchDevice(ctx, d, func(p []byte) { f.look(&t.Canary, p) }); err != nil {
			return f, err
		}
	}
	f.Bytes = out // of all that is on the devices
	return f, nil
}

// advise gives advice on areas of the target. A refusal is no error. refused is the
// first refusal of memory of a file or a driver, which hidden guest RAM is.
func (t Target) advise(ctx context.Context, areas []area, advice int) (refused, err error) {
	const atOnce = 64 << 20
	pidfd, err := unix.PidfdOpen(t.PID, 0)
	if err != nil {
		return nil, fmt.Errorf("pidfd_open of %d: %w", t.PID, err)
	}
	defer unix.Close(pidfd)
	for _, a := range areas {
		for start := a.Start; start < a.End; start += atOnce {
			if err := ctx.Err(); err != nil {
				return refused, err
			}
			_, err := processMadvise(pidfd, area{Start: start, End: min(start+atOnce, a.End)}, advice)
			switch {
			case errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ESRCH):
				return refused, orDenied(fmt.Errorf("process_madvise %d of %d: %w", advice, t.PID, err))
			case err != nil && refused == nil && strings.HasPrefix(a.Path, "/"):
				refused = err
			}
		}
	}
	return refused, nil
}

// swapped is how many bytes of the target's memory are in swap.
func (t Target) swapped() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", t.PID))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "Swap:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/smaps_rollup says nothing about swap", t.PID)
}

// swapDevices lists the devices and files that the host swaps to.
func swapDevices() ([]string, error) {
	text, err := os.ReadFile("/proc/swaps")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // a kernel without CONFIG_SWAP
	}
	if err != nil {
		return nil, err
	}
	return parseSwaps(bytes.NewReader(text)), nil
}

// parseSwaps reads /proc/swaps: a line of titles, then a line each.
func parseSwaps(r io.Reader) []string {
	var devices []string
	lines := bufio.NewScanner(r)
	lines.Scan()
	for lines.Scan() {
		if name, _, ok := strings.Cut(lines.Text(), " "); ok {
			devices = append(devices, unescape(name))
		}
	}
	return devices
}

// unescape replaces what the kernel writes as \ and three octal digits, white
// space and the backslash itself (seq_file_path).
func unescape(name string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(name)
}

// searchDevice calls look with all of a device, whole pages at a time. It reads
// with O_DIRECT: the page cache isn't coherent with swapping, and would keep copies.
func searchDevice(ctx context.Context, path string, look func([]byte)) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	// Aligned to pages, as O_DIRECT wants it.
	buf, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("mmap of a buffer: %w", err)
	}
	defer unix.Munmap(buf)
	defer clear(buf)
	for off := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.ReadAt(buf, off)
		look(buf[:n&^(pageSize-1)])
		off += int64(n)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
