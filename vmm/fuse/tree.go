package fuse

import (
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// maxNodes bounds the memory that a client can make the server use: by about
	// 150 bytes and the name of each.
	maxNodes = 1 << 19
	noRoot   = -1
)

// tree has the nodes that the client knows, by the numbers that it was given.
type tree struct {
	root *node

	mu     sync.Mutex
	nodes  map[uint64]*node
	byFile map[identity]*node
	last   uint64
}

// node is a file, by the path where it was last seen. A file with several names has
// one node.
type node struct {
	id   uint64
	file identity

	// A served directory has its descriptor in root, and no parent. For other nodes
	// root is noRoot.
	root  int
	shown map[string]*node // served directories, if this is the root above them

	parent   *node
	name     string
	children int // nodes with this parent
	lookups  uint64
	open     []*handle
}

// identity is a file, even if another one gets its inode number.
type identity struct {
	dev, ino     uint64
	born, bornNS int64
}

func newTree(root *node) *tree {
	t := &tree{root: root}
	t.reset()
	return t
}

// reset forgets all nodes but served directories.
func (t *tree) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.nodes, t.byFile = map[uint64]*node{t.root.id: t.root}, map[identity]*node{}
	t.root.children, t.root.open = 0, nil
	for _, n := range t.root.shown {
		n.children, n.open = 0, nil
		t.nodes[n.id] = n
	}
	t.last = max(t.last, rootID+uint64(len(t.root.shown)))
}

func (t *tree) close() (err error) {
	if t.root.root != noRoot {
		err = unix.Close(t.root.root)
	}
	for _, n := range t.root.shown {
		unix.Close(n.root)
	}
	return err
}

// path returns where a node's file was last seen: a served directory, and the path
// from there. The error is ESTALE if the client doesn't know such a node.
func (t *tree) path(id uint64) (root int, path string, n *node, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n = t.nodes[id]; n == nil {
		return noRoot, "", nil, unix.ESTALE
	}
	at := n
	var names []string
	for size := 0; at.root == noRoot; at = at.parent {
		if at.parent == nil {
			return noRoot, "", nil, unix.EACCES // the root above served directories
		}
		if size += len(at.name) + 1; size >= unix.PathMax {
			return noRoot, "", nil, unix.ENAMETOOLONG
		}
		names = append(names, at.name)
	}
	if len(names) == 0 {
		return at.root, ".", n, nil
	}
	slices.Reverse(names)
	return at.root, strings.Join(names, "/"), n, nil
}

// found notes that a directory's entry stands for a file, counts lookups of it, and
// returns the node's number.
func (t *tree) found(dir uint64, name string, file identity, lookups uint64) (uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	parent := t.nodes[dir]
	if parent == nil {
		return 0, unix.ESTALE
	}
	n := t.byFile[file]
	if n == nil {
		if lookups == 0 {
			return 0, nil
		}
		if len(t.nodes) >= maxNodes {
			return 0, unix.ENOMEM
		}
		t.last++
		n = &node{id: t.last, file: file, root: noRoot}
		t.nodes[n.id], t.byFile[file] = n, n
	}
	n.lookups += lookups
	t.move(n, parent, name)
	return n.id, nil
}

// move gives a node its place. It leaves it where it is if it would be below itself:
// two requests may see a directory before and after somebody else has moved it.
func (t *tree) move(n, parent *node, name string) {
	for above := parent; above != nil; above = above.parent {
		if above == n {
			return
		}
	}
	old := n.parent
	n.parent, n.name = parent, name
	parent.children++
	if old != nil {
		old.children--
		t.drop(old)
	}
}

// forget takes lookups back, and drops the node if the client doesn't know it any
// more.
func (t *tree) forget(id, lookups uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.nodes[id]; n != nil {
		n.lookups -= min(lookups, n.lookups)
		t.drop(n)
	}
}

// drop drops a node that nothing needs, and its parents with it.
func (t *tree) drop(n *node) {
	for n != nil && n.parent != nil && n.lookups == 0 && n.children == 0 && len(n.open) == 0 {
		delete(t.nodes, n.id)
		delete(t.byFile, n.file)
		n.parent.children--
		n = n.parent
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
