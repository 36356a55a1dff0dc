package audit

// The avenues that search all RAM through the direct map. A page that was freed
// and not wiped counts as much as one in use.
var (
	directMap = Avenue{
		Name: "direct-map", Scan: Alive,
		About: "searches the kernel's direct map through /proc/kcore while the guest runs: all RAM, with copies that the VMM or the kernel has",
	}
	residueExit = Avenue{
		Name: "residue-exit", Scan: AfterExit,
		About: "searches the direct map when the guest has powered off",
	}
	residueKill = Avenue{
		Name: "residue-kill", Scan: AfterKill,
		About: "searches the direct map when the VMM was killed (SIGKILL)",
	}
	residueReset = Avenue{
		Name: "residue-reset", Scan: AfterReset,
		About: "searches the direct map when the guest has reset itself",
	}
)
