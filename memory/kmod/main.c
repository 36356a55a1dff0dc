// SPDX-License-Identifier: GPL-2.0
//go:build ignore

/* offmap: memory for KVM guests that the host kernel does not map. */

#include <linux/module.h>
#include <linux/stringify.h>

#include "module.h"
#include "offmap.h"

static int __init offmap_init(void)
{
	int ret;

	ret = removed_init();
	if (ret)
		return ret;
	ret = misc_register(&offmap_device);
	if (ret)
		removed_exit();
	return ret;
}

static void __exit offmap_exit(void)
{
	misc_deregister(&offmap_device);
	removed_exit();
}

module_init(offmap_init);
module_exit(offmap_exit);

MODULE_DESCRIPTION("Memory for KVM guests that the host kernel does not map");
MODULE_VERSION(__stringify(OFFMAP_ABI_VERSION));
MODULE_LICENSE("GPL");
