package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"

	"offmap/internal/measure/bench"
	"offmap/internal/measure/bench/baseline"
	"offmap/internal/render/table"
)

// otherVMMs are the programs of peers: their names for --peer, their names on the
// PATH, and the subjects that they can be measured as.
var otherVMMs = []struct {
	name, program string
	peers         []bench.Peer
}{
	{"gokvm", "gokvm", []bench.Peer{bench.Gokvm}},
	{"qemu", "qemu-system-x86_64", []bench.Peer{bench.MicroVM, bench.Q35}},
}

// others finds the programs to compare with: the baseline and other VMMs. It is an error
// if a program that a flag names doesn't exist; others are reported as missing. The
// caller calls remove when it doesn't use the programs any more.
func (f benchFlags) others(ctx context.Context, env *bench.Env) (missing []bench.Unavailable, remove func(), err error) {
	if env.Peers, missing, err = findPeers(f.peers); err != nil {
		return nil, nil, err
	}
	if f.baseline != "" {
		if env.Baseline, err = exec.LookPath(f.baseline); err != nil {
			return nil, nil, fmt.Errorf("--baseline: %w", err)
		}
		return missing, func() {}, nil
	}
	dir, err := os.MkdirTemp("", "offmap-bench-")
	if err != nil {
		return nil, nil, err
	}
	remove = func() {
		if err := os.RemoveAll(dir); err != nil {
			slog.Warn(err.Error())
		}
	}
	if env.Baseline, err = baseline.Build(ctx, dir); err != nil {
		if ctx.Err() != nil {
			remove()
			return nil, nil, context.Cause(ctx)
		}
		slog.Info("no baselines: " + table.OneLine(err.Error()))
		missing = append(missing, bench.Unavailable{Subject: bench.Subject{Peer: bench.C}, Reason: err.Error()})
	}
	return missing, remove, nil
}

// findPeers finds the programs of --peer's NAME=FILE, or else those on the PATH.
func findPeers(asked []string) (found map[bench.Peer]string, missing []bench.Unavailable, err error) {
	files := map[string]string{}
	var have []string
	for _, v := range otherVMMs {
		have = append(have, v.name)
	}
	for _, a := range asked {
		name, file, ok := strings.Cut(a, "=")
		if !ok || file == "" || !slices.Contains(have, name) {
			return nil, nil, usage("--peer %q: want NAME=FILE with NAME one of %s", a, strings.Join(have, ", "))
		}
		files[name] = file
	}
	found = map[bench.Peer]string{}
	for _, v := range otherVMMs {
		file, named := files[v.name]
		if !named {
			file = v.program
		}
		path, err := exec.LookPath(file)
		if err != nil && named {
			return nil, nil, fmt.Errorf("--peer %s: %w", v.name, err)
		}
		for _, p := range v.peers {
			if err != nil {
				missing = append(missing, bench.Unavailable{Subject: bench.Subject{Peer: p}, Reason: err.Error()})
			} else {
				found[p] = path
			}
		}
	}
	return found, missing, nil
}
