package audit

// The avenues that are searches of all RAM through the direct map. What was
// freed and not wiped is as good as what is in use.
var (
	directMap = Avenue{
		Name: "direct-map", Scan: Alive,
		About: "searches the kernel's direct map through /proc/kcore while the guest runs: all RAM, and so copies too that the VMM or the kernel has",
	}
	residueExit = Avenue{
		Name: "residue-exit", Scan: AfterExit,
		About: "searches it for what is left when the guest has powered off",
	}
	residueKill = Avenue{
		Name: "residue-kill", Scan: AfterKill,
		About: "searches it for what is left when the VMM was killed (SIGKILL)",
	}
	residueReset = Avenue{
		Name: "residue-reset", Scan: AfterReset,
		About: "searches it for what is left when the guest has reset itself",
	}
)
