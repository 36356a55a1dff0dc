package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"offmap/internal/lab/debian"
)

// program is the offmap that is run, by its path in the repository.
const program = "bin/offmap"

// labKernels are the kernels that the lab knows.
func labKernels(ctx context.Context) (kernels []debian.Kernel, err error) {
	for _, series := range debian.KnownSeries() {
		k, err := debian.GetKernel(ctx, series, nil)
		if err != nil {
			return nil, err
		}
		kernels = append(kernels, k)
	}
	return kernels, nil
}

// title names a kernel by its series and its exact package.
func title(k debian.Kernel) string {
	series, _, _ := strings.Cut(k.Series, "=")
	return fmt.Sprintf("%s (%s)", series, k.Version)
}

// askLab runs an offmap command in the lab, with these flags of offmap lab. It returns
// the command's output, with an error too. The error wraps an *exec.ExitError if the
// command failed.
func askLab(ctx context.Context, k debian.Kernel, flags []string, command ...string) ([]byte, error) {
	args := append([]string{"lab", "--kernel", k.Series}, flags...)
	cmd := exec.CommandContext(ctx, program, append(append(args, "--"), command...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return out, err
}
