package main

import (
	"math/rand/v2"
	"strings"
)

// Requests that look like good ones, up to a point.

// body returns the device-readable part of a request for a queue, and how many bytes of
// answer there is room for.
func (a *attacker) body(queue int) (in []byte, room int) {
	r := a.r
	switch a.d.kind {
	case blk:
		in, room = blkRequest(r)
	case fs:
		in, room = a.fuseRequest()
	case console:
		switch queue {
		case 3:
			in = words(uint64(r.IntN(3)>>1) | uint64(r.IntN(9))<<32 | uint64(r.IntN(3))<<48)
		case 0, 2:
			room = 1 + r.IntN(600)
		default:
			in = make([]byte, 1+r.IntN(300))
		}
	case rng:
		room = 1 + r.IntN(4096)
	}
	if r.IntN(20) == 0 {
		in = in[:r.IntN(len(in)+1)]
	}
	if r.IntN(20) == 0 {
		room = r.IntN(20)
	}
	return in, room
}

func blkRequest(r *rand.Rand) (in []byte, room int) {
	const sectors = 8 << 20 / 512
	kind := []uint64{0, 0, 0, 1, 1, 1, 4, 8, 11, 13, 2, uint64(r.Uint32())}[r.IntN(12)]
	at := uint64(r.IntN(sectors + 8))
	if r.IntN(10) == 0 {
		at = odd(r)
	}
	in, room = words(kind, at), 1
	n := 512 * r.IntN(33)
	if r.IntN(10) == 0 {
		n = r.IntN(70000)
	}
	switch kind {
	case 0:
		room += n
	case 1:
		in = append(in, make([]byte, n)...)
	case 8:
		room += 20
	case 11, 13:
		for range 1 + r.IntN(4) {
			in = append(in, words(at+uint64(r.IntN(8)), uint64(r.IntN(64))|uint64(r.IntN(3)>>1)<<32)...)
		}
	}
	return in, room
}

// odd returns a number at an edge.
func odd(r *rand.Rand) uint64 {
	return []uint64{0, 1, 1 << 31, 1<<31 - 1, 1 << 32, 1<<32 - 1, 1<<63 - 1, 1 << 63, ^uint64(0), ^uint64(0) >> 9, r.Uint64()}[r.IntN(11)]
}

// fuseArgs are what follows the header of FUSE requests that the server knows: numbers of
// 64 bits, and names.
var fuseArgs = []struct {
	op           uint32
	words, names int
}{
	{1, 0, 1}, {1, 0, 1}, {1, 0, 1}, // LOOKUP
	{2, 1, 0}, {3, 2, 0}, {4, 11, 0}, {5, 0, 0}, {6, 0, 2}, // FORGET, GETATTR, SETATTR, READLINK, SYMLINK
	{8, 2, 1}, {9, 1, 1}, {10, 0, 1}, {11, 0, 1}, {12, 1, 2}, {13, 1, 1}, // MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK
	{14, 1, 0}, {14, 1, 0}, {15, 5, 0}, {15, 5, 0}, {16, 5, 0}, {16, 5, 0}, // OPEN, READ, WRITE
	{17, 0, 0}, {18, 3, 0}, {20, 2, 0}, {26, 2, 0}, {27, 1, 0}, {28, 5, 0}, // STATFS, RELEASE, FSYNC, INIT, OPENDIR, READDIR
	{29, 3, 0}, {30, 2, 0}, {35, 2, 1}, {35, 2, 1}, {36, 1, 0}, {38, 0, 0}, // RELEASEDIR, FSYNCDIR, CREATE, INTERRUPT, DESTROY
	{42, 5, 0}, {43, 4, 0}, {44, 5, 0}, {45, 2, 2}, {46, 3, 0}, // BATCH_FORGET, FALLOCATE, READDIRPLUS, RENAME2, LSEEK
}

var names = []string{
	markerName, "a", "b", "c", "d", "..", ".", "", "../secret", "/etc/passwd", "a/../../secret", "../../../../../../..", "/",
	"/proc/self/fd", "a/b", "a\nb", "\xff\xfe", strings.Repeat("n", 255), strings.Repeat("n", 256), strings.Repeat("../", 1300), "secret",
}

func (a *attacker) fuseRequest() (in []byte, room int) {
	r := a.r
	f := fuseArgs[r.IntN(len(fuseArgs))]
	if !a.begun {
		a.begun = true // INIT
		return append(fuseHeader(26, 16, 0), words(7|31<<32, 0)...), 200
	}
	if r.IntN(50) == 0 {
		f.op = r.Uint32() >> r.IntN(32)
	}
	var body []byte
	for range f.words {
		body = append(body, words(a.word())...)
	}
	for range f.names {
		body = append(append(body, names[r.IntN(len(names))]...), 0)
	}
	if f.op == 43 && len(body) == 32 { // no more of the host's disk than a few MiB
		body[12], body[13], body[14], body[15], body[20], body[21], body[22], body[23] = 0, 0, 0, 0, 0, 0, 0, 0
		body[11], body[19] = 0, 0
	}
	if f.op == 16 {
		body = append(body, make([]byte, r.IntN(9000))...)
	}
	h := fuseHeader(f.op, len(body), a.node())
	if r.IntN(30) == 0 {
		h = words(uint64(f.op)<<32|odd(r)&0xffffffff, r.Uint64(), odd(r), r.Uint64(), r.Uint64())
	}
	room = 16 + r.IntN(8192)
	if r.IntN(3) > 0 {
		room = 16 + 160
	}
	return append(h, body...), room
}

// node returns a node's number, or a handle: one that the server has named, as a rule.
func (a *attacker) node() uint64 {
	switch a.r.IntN(10) {
	case 0:
		return odd(a.r)
	case 1, 2, 3:
		return 1
	}
	return a.known[a.r.IntN(len(a.known))]
}

func (a *attacker) word() uint64 {
	switch a.r.IntN(8) {
	case 0:
		return odd(a.r)
	case 1, 2, 3:
		return a.node()
	case 4:
		return uint64(a.r.IntN(1 << 20))
	case 5:
		return uint64(a.r.IntN(1<<13))<<32 | uint64(a.r.IntN(1<<13))
	}
	return uint64(a.r.IntN(4096))
}

// learn takes what may be a node or a handle from an answer.
func (a *attacker) learn(v uint64) {
	if v != 0 {
		a.known[a.r.IntN(len(a.known))] = v
	}
}
