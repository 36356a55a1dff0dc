package window

// bitmap is a set of page numbers.
type bitmap []uint64

func newBitmap(pages uint64) bitmap { return make(bitmap, (pages+63)/64) }

func (b bitmap) has(p uint32) bool { return b[p/64]>>(p%64)&1 != 0 }
func (b bitmap) add(p uint32)      { b[p/64] |= 1 << (p % 64) }
