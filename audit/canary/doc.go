// Package canary finds out whether memory can be read by searching for a canary:
// 32 random bytes that are planted in it.
//
// Plant a [Canary] where it shouldn't be readable, and search: [ScanKcore]
// searches the kernel's direct map, all RAM as the kernel sees it, and
// [ScanFile] a file, such as the RAM of a virtual machine or a core dump.
// [Canary.Find] searches a slice.
//
// A search proves something only if the canary is in clear nowhere else. So a
// Canary holds its bytes masked. A guest makes up its canary itself, plants it
// in its own RAM and reports it masked. The search unmasks each word that it has
// loaded, one at a time and in a register. A search that finds nothing proves
// something only if the same search finds another canary in memory that can be
// read.
package canary
