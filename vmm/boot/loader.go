package boot

import "offmap/memory"

// Loader puts a guest into RAM and returns the state of its vCPUs. vCPUs for
// which it returns none wait for a start-up IPI. tscKHz is the frequency of the
// guest's TSC.
type Loader func(ram memory.Guest, cpus, tscKHz int) ([]CPU, error)

// LinuxLoader returns the Loader of a Linux guest. It sets cfg.CPUs to the
// machine's number of vCPUs, and an empty cfg.Cmdline to Cmdline with cfg.Words.
func LinuxLoader(cfg LinuxConfig) Loader {
	return func(ram memory.Guest, cpus, tscKHz int) ([]CPU, error) {
		cfg := cfg
		cfg.CPUs = cpus
		if cfg.Cmdline == "" {
			cfg.Cmdline = Cmdline(tscKHz, cfg.Words)
		}
		if cfg.OnCmdline != nil {
			cfg.OnCmdline(cfg.Cmdline)
		}
		cpu, err := Linux(ram, cfg)
		return []CPU{cpu}, err
	}
}

// PayloadLoader returns the Loader of a bare guest, such as one of package
// payload. It sets cfg.CPUs and cfg.TSCKHz to the machine's.
func PayloadLoader(image []byte, cfg PayloadConfig) Loader {
	return func(ram memory.Guest, cpus, tscKHz int) ([]CPU, error) {
		cfg := cfg
		cfg.CPUs, cfg.TSCKHz = cpus, tscKHz
		return Payload(ram, image, cfg)
	}
}
