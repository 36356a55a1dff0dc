package terminal

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"offmap/internal/process/freestanding"
)

// keeperName is the keeper's name in ps. "pkill offmap" must not find it.
const keeperName = "terminal-keeper"

//go:generate sh ../freestanding/build.sh keeper.S

//go:embed keeper.bin
var keeperImage []byte

// termiosSize is sizeof(struct termios) of TCGETS; unix.Termios is struct
// termios2, which has the speeds behind it.
const termiosSize = 36

// keeper is a process that sets the terminal back if this one dies while the
// terminal is raw: by SIGKILL, by a panic in a goroutine, by a fatal error of
// the Go runtime, or by the exit of a library. It is 350 bytes of machine code
// (keeper.S), in a session of its own, so that neither the terminal's signals
// nor those to this process's group reach it.
//
// It reads the end of the pipe when the kernel closes this process's files. In
// do_exit that comes before the parent learns of the death, so the terminal is
// mostly restored before the shell sets a mode of its own to read its next line.
// If the shell was quicker, the keeper leaves its mode alone.
type keeper struct {
	process *os.Process
	life    *os.File // this process's end of the pipe
}

func startKeeper(tty *os.File) (*keeper, error) {
	end, life, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer end.Close()
	// The files are LIFE and TERMINAL of keeper.S.
	process, err := freestanding.Start(keeperName, keeperImage, []*os.File{end, tty}, &syscall.SysProcAttr{Setsid: true})
	if err != nil {
		life.Close()
		return nil, err
	}
	return &keeper{process, life}, nil
}

// restore has the keeper set the terminal to before, if this process dies and the terminal
// is as in raw then.
func (k *keeper) restore(before, raw *unix.Termios) {
	if k == nil {
		return
	}
	// The error means that somebody has killed the keeper. This is fewer than PIPE_BUF
	// bytes, so it gets all of them or none.
	_, _ = k.life.Write(append(encode(before), encode(raw)...))
}

// leave has it leave the terminal alone.
func (k *keeper) leave() {
	none := unix.Termios{Iflag: ^uint32(0), Oflag: ^uint32(0)} // no terminal has these
	k.restore(&none, &none)
}

// stop ends the keeper, which leaves the terminal alone, and waits for it: for no more
// than a second, as somebody may have stopped it. It sends no signal: package jail allows
// none to another process.
func (k *keeper) stop() {
	if k == nil {
		return
	}
	k.leave()
	_ = k.life.Close()
	ended := make(chan struct{})
	go func() {
		_, _ = k.process.Wait() // the error means that it was waited for
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(time.Second):
	}
}

// encode returns t as the struct termios of TCGETS.
func encode(t *unix.Termios) []byte {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.NativeEndian, t) // a buffer takes everything
	return b.Bytes()[:termiosSize]
}
