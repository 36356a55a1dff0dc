// Package scrubber wipes a window's frames when the VMM has ended, for whatever
// reason.
//
// A window is a shared memfd with copies of secret guest pages, in ordinary
// memory. When a VMM is killed, the kernel frees that memory without clearing
// it. The scrubber is a process that has the file open too, so the memory isn't
// freed. It waits for the end of the VMM, overwrites the file's pages with zeros,
// frees them and exits. It is about 600 bytes of machine code (scrubber.S), and
// shares nothing with the VMM but the file and a socket.
//
// # How it notices the end of the VMM
//
// The VMM has one end of a socket pair, and the scrubber the other. The VMM's is
// close-on-exec from its creation, so no child of the VMM inherits it. It is
// closed when the kernel frees the VMM's table of open files, and the scrubber
// then reads end of file.
//
// After that, no page of the window is written. The table is freed by the last
// of the VMM's threads to exit, and in the kernel's do_exit a thread gives up its
// memory (exit_mm) before its files (exit_files). By then no thread can write to
// a mapping of the window, none is in a system call that does, and no vCPU runs.
// KVM writes for a vCPU only in that vCPU's thread, and only while the thread
// has its memory. This doesn't hold for kernel threads that use the VMM's memory
// without its files: vhost, and io_uring requests in flight. The VMM uses
// neither.
//
// # Limitations
//
//   - If the scrubber is killed together with the VMM, nothing wipes the window:
//     by a SIGKILL to both, by cgroup.kill, or at the end of their PID namespace,
//     and so of their container. Start refuses a VMM that is process 1 of a PID
//     namespace, because the scrubber would be killed at every end of it.
//   - Copies that the kernel makes aren't pages of the file: swapped-out pages on
//     disk, and the old frames of migrated pages (compaction, NUMA balancing).
//   - A core dump of the VMM is written before its files are closed.
//
// A host booted with init_on_free=1 clears all freed frames, those of the first
// two cases included.
package scrubber
