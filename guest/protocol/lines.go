package protocol

import (
	"fmt"
	"time"
)

// UserlandLine is what process 1 of the initramfs prints first.
const UserlandLine = "offmap: userland"

// A guest that holds a canary (package audit/canary) prints CanaryLine and then
// CanaryPlanted, and waits for a line of input. After CanaryCheck it prints
// CanaryHeldLine and ends; at CanaryReset it resets the machine. The payload
// looks at the first byte only.
const (
	CanaryPlanted = canaryPrefix + "planted"
	CanaryCheck   = "\n"
	CanaryReset   = "reset\n"

	canaryPrefix = "offmap-canary: "
	canaryLine   = canaryPrefix + "%s pages=%d"
	canaryHeld   = canaryPrefix + "held in %d of %d pages"
)

// CanaryLine says in how many pages of 4 KiB a guest has planted its canary,
// which is masked and in hexadecimal.
func CanaryLine(masked string, pages int) string { return fmt.Sprintf(canaryLine, masked, pages) }

// ParseCanaryLine reads a CanaryLine, without its end of line.
func ParseCanaryLine(line string) (masked string, pages int, ok bool) {
	_, err := fmt.Sscanf(line, canaryLine, &masked, &pages)
	return masked, pages, err == nil && line == CanaryLine(masked, pages)
}

// CanaryHeldLine says in how many of its pages a guest still has its canary.
func CanaryHeldLine(held, pages int) string { return fmt.Sprintf(canaryHeld, held, pages) }

// ParseCanaryHeldLine reads a CanaryHeldLine, without its end of line.
func ParseCanaryHeldLine(line string) (held, pages int, ok bool) {
	_, err := fmt.Sscanf(line, canaryHeld, &held, &pages)
	return held, pages, err == nil && line == CanaryHeldLine(held, pages)
}

// MaxExits is the highest number of exits that an ExitsLine has. It keeps their
// time within what the line can say.
const MaxExits = 100_000_000

const (
	exitsLine = "offmap: %d exits in %d ns"
	exitsTime = 1e15 // nanoseconds that no line reaches
)

// ExitsStart is the line that the command exits of the initramfs prints before
// n exits.
func ExitsStart(n int) string { return fmt.Sprintf("offmap: %d exits from here", n) }

// ExitsLine is the line that the command prints after them.
func ExitsLine(n int, took time.Duration) string {
	return fmt.Sprintf(exitsLine, n, took.Nanoseconds())
}

// ParseExitsLine reads an ExitsLine, without its end of line.
func ParseExitsLine(line string) (n int, took time.Duration, ok bool) {
	var ns int64
	_, err := fmt.Sscanf(line, exitsLine, &n, &ns)
	took = time.Duration(ns)
	return n, took, err == nil && n > 0 && n <= MaxExits && ns > 0 && ns < exitsTime && line == ExitsLine(n, took)
}
