package report

import "fmt"

// kind says which document a source is.
func (s *Source) kind() string {
	switch {
	case s.Bench != nil:
		return "bench"
	case s.Audit != nil:
		return "audit"
	case s.Limits != nil:
		return "limits"
	case s.Run != nil:
		return "run"
	case s.Doctor != nil:
		return "doctor"
	case s.Trace != nil:
		return "exposure"
	}
	return ""
}

// accelName is Host.Accel for people.
func accelName(accel string) string {
	switch accel {
	case "tcg":
		return "emulated (TCG)"
	case "":
		return "unknown accelerator"
	case "none":
		return "no KVM"
	}
	return cut(accel, 20)
}

// name names the sources by kernel and accelerator. Where two of a kind would
// have the same name, their files are added.
func name(sources []*Source) {
	count := map[[2]string]int{}
	key := func(s *Source) [2]string { return [2]string{s.kind(), s.Name} }
	for _, s := range sources {
		kernel := s.Host.Kernel
		if kernel == "" {
			kernel = "unknown kernel"
		}
		s.place = fmt.Sprintf("%s, %s", cut(kernel, 60), accelName(s.Host.Accel))
		s.Name = s.place
		count[key(s)]++
	}
	for _, s := range sources {
		if count[key(s)] > 1 {
			s.Name += " [" + cut(s.File, 60) + "]"
		}
	}
}

// emulated reports whether an emulator runs the host, whose times say nothing
// about hardware.
func emulated(accel string) bool { return accel == "tcg" }
