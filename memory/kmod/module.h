/* SPDX-License-Identifier: GPL-2.0 */
/* What the module's devices share. */
#ifndef _OFFMAP_MODULE_H
#define _OFFMAP_MODULE_H

#include <linux/miscdevice.h>
#include <linux/mm.h>

#include "compat.h"

extern struct miscdevice offmap_device, removed_device;

int removed_init(void);
void removed_exit(void);

/*
 * Makes a VMA one of page frame numbers, which stays in one address space and in
 * its size, and is neither dumped nor executed.
 */
static inline void offmap_keep_pfnmap(struct vm_area_struct *vma)
{
	/* VM_IO: without it madvise(MADV_DOFORK) would clear VM_DONTCOPY. */
	vm_flags_set(vma, VM_PFNMAP | VM_IO | VM_DONTCOPY | VM_DONTEXPAND |
			  VM_DONTDUMP);
	vm_flags_clear(vma, VM_MAYEXEC);
}

#endif /* _OFFMAP_MODULE_H */
