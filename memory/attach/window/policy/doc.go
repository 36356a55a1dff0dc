// Package policy decides which pages of a guest are in its window. It only
// computes: package window makes the system calls.
//
// Frames has the state of every page and chooses the pages to evict. Streams
// chooses how many pages to fill for a fault.
//
// The tests of the package have a simulator of the pager, other replacement
// policies, and the trace of a booting guest:
//
//	go test offmap/memory/attach/window/policy -run xxx -bench Policies -benchtime 1x
package policy
