package audit

import (
	"errors"
	"os"
	"strings"
)

// tune changes a setting of the kernel, and returns a function that restores it. If
// the kernel doesn't have the setting, tune does nothing.
func tune(path, value string) (restore func() error, err error) {
	old, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, err
	}
	was := strings.TrimSpace(string(old))
	if was == value {
		return func() error { return nil }, nil
	}
	// Some settings list all values, with the current one in brackets.
	if _, rest, ok := strings.Cut(was, "["); ok {
		was, _, _ = strings.Cut(rest, "]")
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return nil, err
	}
	return func() error { return os.WriteFile(path, []byte(was), 0) }, nil
}
