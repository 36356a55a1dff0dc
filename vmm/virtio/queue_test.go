package virtio_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"testing"

	"offmap/memory/memtest"
	"offmap/vmm/virtio"
	"offmap/vmm/virtio/virtiotest"
)

// features are the combinations that a queue works with.
var features = map[string]uint64{
	"all":            ^uint64(0),
	"no event index": ^virtio.EventIdx,
	"no indirect":    ^virtio.IndirectDesc,
	"neither":        ^(virtio.IndirectDesc | virtio.EventIdx),
}

func TestRoundTrips(t *testing.T) {
	check := memtest.Leaks(t)
	for name, f := range features {
		t.Run(name, func(t *testing.T) {
			d := virtiotest.NewWith(t, &echo{sizes: []int{8, 4}}, f)
			for i := range 200 {
				in := make([]byte, 3000+i)
				rand.Read(in)
				n, out := d.Request(i%2, [][]byte{in[:1], in[1:]}, []int{1000, 5000})
				if got := bytes.Join(out, nil); int(n) != len(in) || !bytes.Equal(got[:n], in) {
					t.Fatalf("request %d: %d bytes come back of %d, or others", i, n, len(in))
				}
			}
		})
	}
	check()
}

// waker answers on a channel what Next returns.
type waker struct {
	echo
	queue chan *virtio.Queue
	got   chan string
}

func (w *waker) Serve(_ int, q *virtio.Queue, _ uint64) error {
	w.queue <- q
	for {
		c, err := q.Next()
		switch {
		case err != nil:
			return err
		case c == nil:
			w.got <- "nothing"
		default:
			w.got <- "a request"
			if err := q.Done(c, 0); err != nil {
				return err
			}
		}
	}
}

// TestWake: after Wake, Next returns the requests that there are, and then once none.
func TestWake(t *testing.T) {
	for name, f := range features {
		t.Run(name, func(t *testing.T) {
			w := &waker{echo: echo{sizes: []int{8}}, queue: make(chan *virtio.Queue, 1), got: make(chan string)}
			d := virtiotest.NewWith(t, w, f)
			q := <-w.queue
			for i := range 1000 {
				r := d.Rings[0].Send([][]byte{{1}}, nil)
				q.Wake()
				if first, second := <-w.got, <-w.got; first != "a request" || second != "nothing" {
					t.Fatalf("%d: %s and then %s", i, first, second)
				}
				r.Wait()
			}
		})
	}
}

// TestInFlight keeps a ring full, for more requests than an index counts.
func TestInFlight(t *testing.T) {
	requests := 3 << 15
	if testing.Short() {
		requests = 1 << 10
	}
	for name, f := range features {
		t.Run(name, func(t *testing.T) {
			d := virtiotest.NewWith(t, &echo{sizes: []int{16}}, f)
			var flight []*virtiotest.Request
			for i := range requests {
				flight = append(flight, d.Rings[0].Send([][]byte{fmt.Append(nil, i)}, []int{8}))
				if len(flight) < 5 && i < requests-5 {
					continue
				}
				n, out, ok := flight[0].Wait()
				if want := fmt.Sprint(i - len(flight) + 1); !ok || string(out[0][:n]) != want {
					t.Fatalf("request %s: %q, %v", want, out[0][:n], ok)
				}
				flight = flight[1:]
			}
		})
	}
}
