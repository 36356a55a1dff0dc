package serial

// ring is a queue of bytes in a fixed buffer.
type ring struct {
	buf     []byte
	head, n int
}

func (r *ring) len() int   { return r.n }
func (r *ring) full() bool { return r.n == len(r.buf) }

// push adds b. The ring must not be full.
func (r *ring) push(b byte) {
	r.buf[(r.head+r.n)%len(r.buf)] = b
	r.n++
}

// pop removes the oldest byte. The ring must not be empty.
func (r *ring) pop() byte {
	b := r.buf[r.head]
	r.head = (r.head + 1) % len(r.buf)
	r.n--
	return b
}

func (r *ring) clear() { r.head, r.n = 0, 0 }
