// Package audit attacks the RAM of guests, and says whether a host could read
// it.
//
// An [Avenue] is one way by which a host could read a guest's RAM. It is either
// a search of all RAM through the kernel's direct map, or an attack on the
// process that runs the guest. The guest plants a canary ([offmap/audit/canary]), random bytes
// that are in clear nowhere else; an attack succeeds if it finds them.
//
// One attack by itself is a function of a [Target]:
//
//	ksm, err := audit.Lookup("ksm")
//	...
//	f, err := ksm.Attack(ctx, audit.Target{PID: pid, Canary: c})
//
// The target is any process with the canary in its memory; it needn't run a
// guest. A [Finding] says in how many pages the attack found the canary, and
// with which errno the kernel refused the rest. A refusal by itself means
// nothing: the attack may be broken. It counts only if the same attack, in the
// same run, found the canary of a control, a process that holds it in ordinary
// memory. An error that matches [ErrUnavailable] says that this host can't make
// the attack at all, and one that matches [ErrInapplicable] that this target has
// nothing that the attack could work on.
//
// [Run] makes a whole audit. It runs guests, by the program's own command
// "offmap run": one in each [Column], ordinary memory among them. It makes every
// attack on every one of them, and judges ([Verdict]) each by its control.
// [Result.Document] is the result as JSON, and [Read] reads it.
//
// Most attacks need root. Some have the target make system calls, in a thread
// that ptrace(2) adds to it ([offmap/audit/inject]). Some change settings of the
// host (KSM, zswap, huge pages of shared memory) and put them back at the end.
// An attack on a process may leave copies of the canary anywhere in the host; so
// Run searches all RAM only for the canaries of guests that nothing else
// attacks.
package audit
