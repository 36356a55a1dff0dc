package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"

	"offmap/internal/bench"
	"offmap/internal/bench/floor"
)

// otherVMMs are the programs of peers: what --peer calls them, what they are
// called on the PATH, and what they can be measured as.
var otherVMMs = []struct {
	name, program string
	peers         []bench.Peer
}{
	{"gokvm", "gokvm", []bench.Peer{bench.Gokvm}},
	{"qemu", "qemu-system-x86_64", []bench.Peer{bench.MicroVM, bench.Q35}},
}

// others finds what there is to compare with: the floor and other VMMs. What
// was asked for and isn't there is an error; what just isn't there is said.
// The caller calls remove when the programs aren't used any more.
func (f benchFlags) others(ctx context.Context, env *bench.Env, unavailable *[]bench.Unavailable) (remove func(), err error) {
	if env.Peers, err = findPeers(f.peers, unavailable); err != nil {
		return nil, err
	}
	if f.floor != "" {
		env.Floor, err = exec.LookPath(f.floor)
		if err != nil {
			return nil, fmt.Errorf("--floor: %w", err)
		}
		return func() {}, nil
	}
	dir, err := os.MkdirTemp("", "offmap-bench-")
	if err != nil {
		return nil, err
	}
	remove = func() {
		if err := os.RemoveAll(dir); err != nil {
			slog.Warn(err.Error())
		}
	}
	if env.Floor, err = floor.Build(ctx, dir); err != nil {
		if ctx.Err() != nil {
			remove()
			return nil, context.Cause(ctx)
		}
		slog.Info("no floors: " + oneLine(err.Error()))
		*unavailable = append(*unavailable, bench.Unavailable{Peer: bench.C, Reason: err.Error()})
	}
	return remove, nil
}

// findPeers finds the programs of --peer's NAME=FILE, or else those on the PATH.
func findPeers(asked []string, unavailable *[]bench.Unavailable) (map[bench.Peer]string, error) {
	files := map[string]string{}
	var have []string
	for _, v := range otherVMMs {
		have = append(have, v.name)
	}
	for _, a := range asked {
		name, file, ok := strings.Cut(a, "=")
		if !ok || file == "" || !slices.Contains(have, name) {
			return nil, usage("--peer %q: want NAME=FILE with NAME one of %s", a, strings.Join(have, ", "))
		}
		files[name] = file
	}
	found := map[bench.Peer]string{}
	for _, v := range otherVMMs {
		file, named := files[v.name]
		if !named {
			file = v.program
		}
		path, err := exec.LookPath(file)
		switch {
		case err == nil:
			for _, p := range v.peers {
				found[p] = path
			}
		case named:
			return nil, fmt.Errorf("--peer %s: %w", v.name, err)
		default:
			for _, p := range v.peers {
				*unavailable = append(*unavailable, bench.Unavailable{Peer: p, Reason: err.Error()})
			}
		}
	}
	return found, nil
}
