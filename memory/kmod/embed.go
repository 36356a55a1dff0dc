// Package kmod carries the sources of the kernel module offmap.ko, so that a
// binary can build the module for a kernel that it meets. See README.md.
package kmod

import "embed"

// Sources is what make needs to build the module, at the root of the tree.
//
//go:embed Kbuild Makefile dkms.conf compat.h offmap.c offmap.h
var Sources embed.FS
