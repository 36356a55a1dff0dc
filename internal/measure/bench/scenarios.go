package bench

import "slices"

// groups return the scenarios, in the order in which they are listed and run.
var groups = []func() []Scenario{
	bandwidthScenarios,
	latencyScenarios,
	randomScenarios,
	uncachedScenarios,
	touchScenarios,
	populateScenarios,
	directMapScenarios,
	neighbourScenarios,
	exitScenarios,
	diskScenarios,
	linuxBootScenarios,
	costScenarios,
	userfaultScenarios,
	windowScenarios,
}

// Scenarios returns all scenarios.
func Scenarios() []Scenario {
	var all []Scenario
	for _, g := range groups {
		all = slices.Concat(all, g())
	}
	return all
}
