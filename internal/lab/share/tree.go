package share

import (
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// tree has the nodes that the client knows, by the numbers that it was given. A node
// stands for a name and not for an open file, so that it takes no descriptor.
type tree struct {
	mu    sync.Mutex
	nodes map[uint64]*node
	last  uint64
}

// node is a file by its name. A node that has lost its name has no parent, and can
// be reached only through its open handles.
type node struct {
	id       uint64
	file     identity
	parent   *node
	name     string // in parent; for a served directory, its path on this host
	children map[string]*node
	lookups  uint64
	open     []*handle
}

// identity tells whether a name still stands for the same file.
type identity struct{ dev, ino uint64 }

func newTree(dirs []string) *tree {
	root := &node{id: rootID, lookups: 1, children: map[string]*node{}}
	t := &tree{nodes: map[uint64]*node{rootID: root}, last: rootID}
	for i, dir := range dirs {
		// If the directory doesn't exist, a look-up of it fails.
		path, err := filepath.EvalSymlinks(dir)
		if err != nil {
			path = dir
		}
		var st unix.Stat_t
		_ = unix.Lstat(path, &st)
		n := t.add(root, strconv.Itoa(i), identity{st.Dev, st.Ino})
		n.name, n.lookups = path, 1 // a look-up that is never forgotten
	}
	return t
}

func (t *tree) add(parent *node, name string, file identity) *node {
	t.last++
	n := &node{id: t.last, file: file, parent: parent, name: name, children: map[string]*node{}}
	t.nodes[n.id] = n
	parent.children[name] = n
	return n
}

// path returns the path of a node's file on this host, or ESTALE if it has lost its
// name.
func (t *tree) path(id uint64) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pathLocked(t.nodes[id])
}

func (t *tree) pathLocked(n *node) (string, error) {
	switch {
	case n == nil, n.parent == nil:
		return "", unix.ESTALE
	case n.parent.id == rootID:
		return n.name, nil
	}
	dir, err := t.pathLocked(n.parent)
	return dir + "/" + n.name, err
}

// found counts a look-up of a name that stands for file, and returns the node's
// number.
func (t *tree) found(parent uint64, name string, file identity) (uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.nodes[parent]
	if p == nil {
		return 0, unix.ESTALE
	}
	n := p.children[name]
	if n != nil && n.file != file {
		n.detach()
		n = nil
	}
	if n == nil {
		n = t.add(p, name, file)
	}
	n.lookups++
	return n.id, nil
}

// detach takes the node's name away.
func (n *node) detach() {
	if n.parent != nil {
		delete(n.parent.children, n.name)
		n.parent = nil
	}
}

// forget takes look-ups back, and drops the node if the client doesn't know it any
// more.
func (t *tree) forget(id, lookups uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.nodes[id]
	if n == nil || id == rootID {
		return
	}
	n.lookups -= min(lookups, n.lookups)
	t.drop(n)
}

func (t *tree) drop(n *node) {
	for n != nil && n.lookups == 0 && len(n.children) == 0 && len(n.open) == 0 {
		parent := n.parent
		n.detach()
		delete(t.nodes, n.id)
		n = parent
	}
}

// removed notes that a name was removed.
func (t *tree) removed(parent uint64, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.child(parent, name); n != nil {
		n.detach()
	}
}

func (t *tree) child(parent uint64, name string) *node {
	if p := t.nodes[parent]; p != nil {
		return p.children[name]
	}
	return nil
}

// renamed notes that a name was moved, or that two names were exchanged.
func (t *tree) renamed(from uint64, name string, to uint64, other string, exchange bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, b := t.child(from, name), t.child(to, other)
	for _, n := range []*node{a, b} {
		if n != nil {
			n.detach()
		}
	}
	t.attach(a, to, other)
	if exchange {
		t.attach(b, from, name)
	}
}

func (t *tree) attach(n *node, parent uint64, name string) {
	if p := t.nodes[parent]; n != nil && p != nil {
		n.parent, n.name = p, name
		p.children[name] = n
	}
}

// opened notes a handle of a node. A file that has lost its name can be reached
// through it.
func (t *tree) opened(id uint64, h *handle) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.nodes[id]; n != nil {
		n.open = append(n.open, h)
	}
}

// released forgets a handle of a node.
func (t *tree) released(id uint64, h *handle) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.nodes[id]
	if n == nil {
		return
	}
	for i := range n.open {
		if n.open[i] == h {
			n.open = append(n.open[:i], n.open[i+1:]...)
			break
		}
	}
	t.drop(n)
}

// anyOpen returns an open handle of a node, or nil.
func (t *tree) anyOpen(id uint64) *handle {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.nodes[id]; n != nil && len(n.open) > 0 {
		return n.open[0]
	}
	return nil
}
