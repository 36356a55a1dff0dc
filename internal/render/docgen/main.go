// Command docgen writes the pages of docs/ that are made from results in the lab:
// docgen audit|kernels|limits.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
)

var pages = map[string]func(ctx context.Context, args []string) error{
	"audit":   audits,
	"kernels": kernels,
	"limits":  limitsOf,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) < 2 || pages[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: go run ./internal/render/docgen audit|kernels|limits [DOCUMENT.json]...")
		os.Exit(2)
	}
	if err := pages[os.Args[1]](ctx, os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "docgen:", err)
		os.Exit(1)
	}
}
