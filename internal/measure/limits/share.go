package limits

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"offmap/memory"
)

// shareLimits are about sharing the memory with other processes.
func shareLimits(b memory.Backend) []Limit {
	return []Limit{
		{
			ID:       "shared-by-fd",
			Title:    "Secret memory is shared by passing its descriptor",
			Source:   sourceLutomirski + "; the commit names it an advantage",
			Link:     linkLutomirski,
			How:      "A process that was started without the descriptor gets it over a socket (SCM_RIGHTS), maps it, reads a number and writes another one back.",
			Expected: "It reads the number, and its own is seen here",
			Means:    "Guest RAM can be shared with a device process, as vhost-user does, by giving it the descriptor. It can't be shared in part, nor read-only.",
			check:    func(ctx context.Context) (Observation, error) { return checkShared(ctx, b) },
		},
		{
			ID:       "sealing",
			Title:    "Operations on the file can be sealed",
			Source:   sourceCommit,
			Link:     linkCommit,
			How:      "fcntl(F_ADD_SEALS) with F_SEAL_SHRINK and with F_SEAL_FUTURE_WRITE, on a secret file and on a memfd.",
			Expected: "Both are taken, as for a memfd",
			Means:    "The commit names seals as an advantage of a file, but this file has none. Its size can't change anyway; but RAM can't be made read-only for a device process that gets the descriptor.",
			check:    func(context.Context) (Observation, error) { return checkSeals(b) },
		},
		{
			ID:       "shared-only",
			Title:    "Only shared mappings, and none that can be executed",
			Source:   sourceCode,
			Link:     linkCode,
			How:      "mmap(2) with MAP_PRIVATE, mmap(2) with PROT_EXEC, and mprotect(2) to PROT_EXEC, of a secret file and of a memfd.",
			Expected: "Each is refused",
			Means:    "No copy-on-write clones of a guest in secret memory. KVM's guests do execute from it: that is a matter of KVM's page tables, not of the VMM's.",
			check: func(context.Context) (Observation, error) {
				return refused(b, []attempt{
					{"MAP_PRIVATE", unix.EINVAL, func(a *area) error { return mapsAs(a, unix.PROT_READ, unix.MAP_PRIVATE) }},
					{"PROT_EXEC", 0, func(a *area) error { return mapsAs(a, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_SHARED) }},
					{"mprotect to PROT_EXEC", 0, func(a *area) error { return unix.Mprotect(a.mem, unix.PROT_READ|unix.PROT_EXEC) }},
				})
			},
		},
		{
			ID:       "fork",
			Title:    "A forked child has the secret too, unless MADV_DONTFORK keeps it out",
			Source:   sourceManual + "; MAP_EXCLUSIVE was not inherited",
			Link:     linkManual,
			How:      "An attack of the audit: a process that holds a canary in the memory is made to fork, and its child, which runs none of its code, to write(2) its memory to a file. The same after MADV_DONTFORK.",
			Expected: "The child has the canary; after MADV_DONTFORK it gets EFAULT",
			Means:    "A VMM sets MADV_DONTFORK on guest RAM, or starts nothing by fork. offmap sets it. exec drops the mapping in any case, and O_CLOEXEC the descriptor.",
			check:    func(ctx context.Context) (Observation, error) { return checkFork(ctx, b) },
		},
	}
}

// mapsAs maps the area's file once more.
func mapsAs(a *area, prot, flags int) error {
	mem, err := unix.Mmap(a.fd, 0, attemptSize, prot, flags)
	if err == nil {
		unix.Munmap(mem)
	}
	return err
}

// number is what one process writes for the other.
const number = 0x5eed

func checkShared(ctx context.Context, b memory.Backend) (o Observation, err error) {
	a, err := newPopulated(b, attemptSize)
	if err != nil {
		return o, err
	}
	defer a.Close()
	binary.LittleEndian.PutUint64(a.mem, number)
	s, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return o, fmt.Errorf("socketpair: %w", err)
	}
	theirs := os.NewFile(uintptr(s[1]), "socket")
	defer theirs.Close()
	defer unix.Close(s[0])
	var rights []byte // none for memory that has no descriptor
	if a.fd >= 0 {
		rights = unix.UnixRights(a.fd)
	}
	if err := unix.Sendmsg(s[0], []byte{0}, rights, nil, 0); err != nil {
		return Observation{Text: "sending the descriptor: " + outcome(err)}, nil
	}
	var got uint64
	change := func(cmd *exec.Cmd) { cmd.ExtraFiles = append(cmd.ExtraFiles, theirs) }
	if _, err := ask(ctx, change, &got, "receive"); err != nil {
		return Observation{Text: "the other process: " + err.Error()}, nil
	}
	here := binary.LittleEndian.Uint64(a.mem)
	return Observation{
		Text:  fmt.Sprintf("the other process reads %#x of %#x, and %#x of its %#x is seen here", got, number, here, number+1),
		Holds: got == number && here == number+1,
	}, nil
}

// receiveTask receives a descriptor over a socket, maps it, reports the number there
// and writes the next number.
func receiveTask(say func(any) error, _ []string) error {
	var buf [1]byte
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(extraFD, buf[:], oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return fmt.Errorf("recvmsg: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return fmt.Errorf("no descriptor came (%v)", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return err
	}
	mem, err := unix.Mmap(fds[0], 0, attemptSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	got := binary.LittleEndian.Uint64(mem)
	binary.LittleEndian.PutUint64(mem, got+1)
	return say(got)
}

func checkSeals(b memory.Backend) (o Observation, err error) {
	o.Holds = true
	for _, seal := range []struct {
		name string
		seal int
	}{{"F_SEAL_SHRINK", unix.F_SEAL_SHRINK}, {"F_SEAL_FUTURE_WRITE", unix.F_SEAL_FUTURE_WRITE}} {
		add := func(a *area) error {
			_, err := unix.FcntlInt(uintptr(a.fd), unix.F_ADD_SEALS, seal.seal)
			return err
		}
		control, err := try(memory.Memfd, attempt{do: add})
		if err != nil {
			return o, err
		}
		if control != nil {
			return o, skipped("%s of a memfd: %v", seal.name, control)
		}
		got, err := try(b, attempt{do: add})
		if err != nil {
			return o, err
		}
		o.Holds = o.Holds && got == nil
		o.Text += seal.name + " " + outcome(got) + ", "
	}
	o.Text += "a memfd takes both"
	return o, nil
}

func checkFork(ctx context.Context, b memory.Backend) (o Observation, err error) {
	with, err := attack(ctx, "fork-child", b, unix.MADV_DOFORK)
	if err != nil {
		return o, err
	}
	without, err := attack(ctx, "fork-child", b, unix.MADV_DONTFORK)
	if err != nil {
		return o, err
	}
	o.Text = fmt.Sprintf("%d of %d pages found in the child; after MADV_DONTFORK %d, ", with.Pages, attackPages, without.Pages)
	if without.Errno != 0 {
		o.Text += outcome(without.Errno)
	} else {
		o.Text += "nothing refused"
	}
	o.Holds = with.Pages == attackPages && without.Pages == 0 && without.Errno == unix.EFAULT
	return o, nil
}
