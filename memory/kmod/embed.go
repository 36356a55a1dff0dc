// Package kmod embeds the sources of the kernel module offmap.ko, so that the offmap
// binary can build the module for any kernel. See README.md.
package kmod

import "embed"

// Sources has the files that make needs to build the module, in its root directory.
//
//go:embed Kbuild Makefile dkms.conf bridge.c compat.h main.c module.h offmap.h removed.c
var Sources embed.FS
