package main

import (
	"context"

	"github.com/spf13/cobra"

	"offmap/internal/lab"
)

func newLabShellCmd() *cobra.Command {
	f := labFlags{memory: lab.DefaultMemory, cpus: lab.DefaultCPUs}
	cmd := &cobra.Command{
		Use:   "shell [flags] [-- SHELL-ARG...]",
		Short: "Open a shell inside a stock kernel",
		Long: `shell opens the POSIX shell of offmap's own initramfs inside the lab, as root and
with offmap in its path. The machine ends when the shell does.`,
		Example: `  offmap lab shell -k 6.1
  offmap lab shell -- -c 'offmap doctor; dmesg'`,
		RunE: run(func(cmd *cobra.Command, args []string) error {
			return shellLab(cmd.Context(), f, args)
		}),
	}
	f.addMachine(cmd)
	return cmd
}

func shellLab(ctx context.Context, f labFlags, args []string) error {
	kernels, err := chosenKernels(f.kernels)
	if err != nil {
		return err
	}
	if len(kernels) > 1 {
		return usage("lab shell: one kernel at a time")
	}
	cfgs, err := prepareLabs(ctx, f, kernels, args)
	if err != nil {
		return err
	}
	cfgs[0].Name = "sh"
	return runHere(ctx, f, cfgs[0])
}
