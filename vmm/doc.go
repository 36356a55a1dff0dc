// Package vmm runs KVM guests: RAM attached to a VM, vCPUs, a serial port, and
// the registers by which a guest turns itself off.
//
// New makes a Machine from a Config and loads its guest, Run runs it once, and
// Close frees it. A Config with nothing but a Guest is a machine with 512 MiB of
// secret memory and one vCPU:
//
//	m, err := vmm.New(vmm.Config{
//		Guest: boot.LinuxLoader(boot.LinuxConfig{Kernel: kernel, Initrd: initrd}),
//		Console: os.Stdout,
//	})
//	if err != nil {
//		return err
//	}
//	defer m.Close()
//	result, err := m.Run(ctx)
//
// # Guest RAM
//
// Config.Backend says where RAM is at rest (package memory), and Config.Attach
// how it gets into KVM (package attach). New never uses a weaker one than was
// asked for. Where the host can't have it, the error says what to do, and
// it is memory.ErrUnavailable for errors.Is.
//
// # Guests
//
// A boot.Loader puts the guest into RAM. Package boot has those of Linux
// (LinuxLoader) and of bare code (PayloadLoader). Package payload has bare guests
// to test and measure with, package initramfs a userland for Linux, and package
// protocol how they talk to this machine.
//
// # Devices
//
// A guest has a serial port, a clock, a panic device and a PCI bus. Config.Devices
// puts virtio devices on that bus, those of packages below virtio or your own. They reach guest RAM
// by memory.Guest only, which copies to and from where it is at rest.
//
// # The end
//
// Result.Outcome says how the guest ended: it powered off, reset itself, halted,
// panicked or crashed, or Stop or the context ended it. A guest can end itself at
// any time and in any way. Nothing that it does panics or hangs the VMM.
//
// # Debugging
//
// Debug returns a Debugger, which stops the vCPUs and works on their registers and on
// guest memory. Package gdb has GDB use it. Only a machine with a Debugger can be
// debugged.
//
// # The process
//
// A machine changes three attributes of its process, and leaves them so:
//
//   - New makes the process undumpable (PR_SET_DUMPABLE, prctl(2)) if guest RAM is
//     hidden. It then leaves no core dump, and other processes of its user can't
//     trace it or open its memory or its files in /proc. With Config.Dumpable New
//     leaves that to the caller.
//   - Run raises GOMAXPROCS to more than the number of vCPUs, and with devices by
//     one more. With Config.KeepProcs it doesn't.
//   - New raises RLIMIT_MEMLOCK as far as it may if RAM is secret memory, whose
//     pages count against it. It leaves a limit alone that is infinite already. With
//     memory.KeepMemlock it never changes the limit.
//
// A process that has opened this one's memory before New keeps it. The command
// offmap run therefore executes a copy of itself first, which is undumpable from
// its first instruction on. Packages can't do that for the programs that they are
// part of. A program whose file its user may not read, such as one of root's with
// mode 0711, needs no copy.
//
// # Hidden RAM and the host
//
// KVM must not reach guest RAM through the direct map if RAM isn't there: the host
// would oops. New therefore hides KVM's paravirtual features and nested
// virtualization from such a guest, has KVM enforce that, and refuses hosts that
// can't (before Linux 5.10).
package vmm
