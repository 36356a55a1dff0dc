package agent

import (
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// LoadModule loads the kernel module in a file, with the parameters that the kernel's
// command line has for it (NAME.PARAMETER=VALUE, as for modprobe(8)), and then those given.
// The error is unix.EEXIST if there is such a module already.
func LoadModule(file string, parameters ...string) error {
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	all := append(moduleParameters(string(cmdline), moduleName(file)), parameters...)
	if err := unix.FinitModule(int(f.Fd()), strings.Join(all, " "), 0); err != nil {
		return fmt.Errorf("load the module %s: %w", file, err)
	}
	return nil
}

// moduleName is the name of the module in a file, which may begin with digits and "-".
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko") // it may have been compressed
	if order, rest, ok := strings.Cut(name, "-"); ok && strings.Trim(order, "0123456789") == "" {
		name = rest
	}
	return underscores(name)
}

// moduleParameters returns what a kernel command line has for a module. A value in
// quotes, with blanks in it, isn't understood.
func moduleParameters(cmdline, name string) (all []string) {
	for word := range strings.FieldsSeq(cmdline) {
		key, value, valued := strings.Cut(word, "=")
		if module, parameter, ok := strings.Cut(key, "."); ok && underscores(module) == name {
			if valued {
				parameter += "=" + value
			}
			all = append(all, parameter)
		}
	}
	return all
}

// underscores returns the name that the kernel knows: it takes "-" for "_".
func underscores(name string) string { return strings.ReplaceAll(name, "-", "_") }
