package userland

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"offmap/guest/agent"
)

// ModulesDir has the kernel modules that process 1 loads, in the order of their names.
const ModulesDir = "/modules"

func loadModules() error {
	entries, err := os.ReadDir(ModulesDir) // sorted
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		errs = append(errs, agent.LoadModule(filepath.Join(ModulesDir, e.Name())))
	}
	return errors.Join(errs...)
}

// consoleWait bounds the time for which a console may take to appear.
const consoleWait = 10 * time.Second

// awaitConsole waits for the terminal name to become the kernel's console, if it is a
// virtio console (hvc), and then makes it this process's standard files. The device
// tells the driver of its ports one by one, after the driver has found the device, so
// the kernel may have started this process without a console, or with another one.
func awaitConsole(name string) error {
	if !strings.HasPrefix(name, "hvc") {
		return nil
	}
	for start := time.Now(); !slices.Contains(consoles(), name); time.Sleep(time.Millisecond) {
		if time.Since(start) > consoleWait {
			return fmt.Errorf("the console %s didn't appear in %v", name, consoleWait)
		}
	}
	fd, err := unix.Open("/dev/console", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/console: %w", err)
	}
	defer unix.Close(fd)
	for std := range 3 {
		if err := unix.Dup3(fd, std, 0); err != nil {
			return fmt.Errorf("console: %w", err)
		}
	}
	return nil
}

// consoles are the names of the kernel's consoles. The last one is /dev/console.
func consoles() []string {
	text, _ := os.ReadFile("/sys/class/tty/console/active")
	return strings.Fields(string(text))
}
