// Command program is what the lab's tests run: both ends of it, process 1 of
// the machine and a program that does as it is told.
package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"offmap/audit/canary"
	"offmap/internal/lab/inside"
	"offmap/internal/lab/outside"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == inside.Command {
		inside.Main()
	}
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "program: what to do?")
		os.Exit(99)
	}
	code, err := act(os.Args[1], os.Args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "program:", err)
		os.Exit(99)
	}
	os.Exit(code)
}

func act(what string, args []string) (int, error) {
	switch what {
	case "streams": // tell them apart, and stdin from none
		n, err := io.Copy(io.Discard, os.Stdin)
		if err != nil {
			return 0, err
		}
		dir, err := os.Getwd()
		if err != nil {
			return 0, err
		}
		fmt.Printf("args %q\nstdin %d\ndir %s\nLAB_TEST %s\n", args, n, dir, os.Getenv("LAB_TEST"))
		fmt.Fprint(os.Stderr, "this is stderr")
		return 7, nil
	case "copy": // stdin to stdout, its hash to stderr
		h := sha256.New()
		if _, err := io.Copy(io.MultiWriter(os.Stdout, h), os.Stdin); err != nil {
			return 0, err
		}
		fmt.Fprintf(os.Stderr, "%x", h.Sum(nil))
		return 0, nil
	case "machine": // copy args[0] to args[1], see that the others exist, scan
		if err := copyFile(args[1], args[0]); err != nil {
			return 0, err
		}
		for _, path := range args[2:] {
			if _, err := os.Stat(path); err != nil {
				return 0, err
			}
		}
		return 0, scan()
	case "interrupts": // of the channels to the host, in 5 idle seconds
		before, err := interrupts()
		if err != nil {
			return 0, err
		}
		time.Sleep(5 * time.Second)
		after, err := interrupts()
		fmt.Println(after - before)
		return 0, err
	case "wait": // for SIGINT
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, os.Interrupt)
		fmt.Println("waiting")
		fmt.Println(<-signals)
		return 5, nil
	case "stubborn": // and not even for that
		signal.Ignore(os.Interrupt)
		fmt.Println("waiting")
		time.Sleep(time.Hour)
		return 0, nil
	case "orphan": // leave a process behind that has the streams open
		if len(args) > 0 {
			time.Sleep(time.Hour)
		}
		cmd := exec.Command("/proc/self/exe", "orphan", "sleep")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		return 0, cmd.Start()
	case "killed":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		time.Sleep(time.Hour)
		return 0, nil
	case "log": // as the kernel would
		return 0, os.WriteFile("/dev/kmsg", []byte(strings.Join(args, " ")), 0)
	case "crash":
		if err := os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0); err != nil {
			return 0, err
		}
		return 0, errors.New("survived")
	}
	return 0, fmt.Errorf("don't know how to %s", what)
}

// interrupts counts those of virtio devices so far.
func interrupts() (n int, err error) {
	text, err := os.ReadFile("/proc/interrupts")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.Contains(line, "virtio") {
			count, err := strconv.Atoi(fields[1]) // of the only processor
			if err != nil {
				return 0, err
			}
			n += count
		}
	}
	return n, nil
}

// copyFile replaces dst by way of another name, as careful programs do.
func copyFile(dst, src string) error {
	text, err := os.ReadFile(src)
	if err != nil {
		return err
	}
	if err := os.WriteFile(dst+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(dst+".new", dst)
}

// scan looks for a canary before and after it is there, on four pages.
func scan() error {
	canary, err := canary.New()
	if err != nil {
		return err
	}
	before, err := outside.Scan(canary)
	if err != nil {
		return err
	}
	const pages = 4
	mem, err := syscall.Mmap(-1, 0, pages*4096, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return err
	}
	for i := range pages {
		canary.Plant(mem[i*4096+64:])
	}
	after, err := outside.Scan(canary)
	if err != nil {
		return err
	}
	fmt.Printf("canary on %d pages, then on %d", before[0].Pages, after[0].Pages)
	return nil
}
