package lab

import (
	"net"
	"os"
	"testing"
)

// Another user's connection isn't taken for Bochs's.
func TestOwnsSocket(t *testing.T) {
	const sockets = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:1F91 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 2 1
   2: 0100007F:1F90 0100007F:1F91 01 00000000:00000000 00:00000000 00000000     0        0 3 1
`
	at := func(port int) net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port} }
	for _, tt := range []struct {
		user, from int
		want       bool
	}{{1000, 0x1f91, true}, {0, 0x1f91, false}, {1000, 0x1f92, false}} {
		if got := ownsSocket(sockets, tt.user, at(tt.from), at(0x1f90)); got != tt.want {
			t.Errorf("user %d, port %#x: %v", tt.user, tt.from, got)
		}
	}
}

// A connection of this process is taken.
func TestAcceptOwn(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := os.Stat("/proc/net/tcp"); err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	dialed := make(chan error, 1)
	go func() {
		c, err := net.Dial("tcp", l.Addr().String())
		if err == nil {
			defer c.Close()
			_, err = c.Read(make([]byte, 1)) // until it is taken, or refused
		}
		dialed <- err
	}()
	conn, err := acceptOwn(l)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	<-dialed
}
