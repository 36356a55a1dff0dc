// Package bench measures the cost of guest memory: in each backend and attach that
// works on this host, in other VMMs, and in plain C, the baseline.
//
// A Scenario takes one sample of one Subject at a time. Plan.Run lets the subjects
// of a scenario take turns, so that a drift of the machine affects all of them.
// Each sample starts from nothing. A guest is created for it, because the result
// depends on the physical pages that the guest happens to get.
//
// The result is a Document, which is written as JSON, CSV (WriteCSV) or in Go's
// benchmark format (WriteBenchfmt).
package bench
