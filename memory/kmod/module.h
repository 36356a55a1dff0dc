/* SPDX-License-Identifier: GPL-2.0 */
/* What the module's devices share. */
#ifndef _OFFMAP_MODULE_H
#define _OFFMAP_MODULE_H

#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/sched.h>

#include "compat.h"

extern struct miscdevice offmap_device, removed_device;

int removed_init(void);
void removed_exit(void);

/*
 * mmap() of a file with @npages pages (0: none yet) that @mm has opened. The VMA
 * stays in that address space, keeps its size, and is neither dumped nor executed.
 */
static inline int offmap_map(struct vm_area_struct *vma,
			     const struct mm_struct *mm, unsigned long npages,
			     const struct vm_operations_struct *ops)
{
	if (current->mm != mm)
		return -EPERM;
	if (vma->vm_flags & VM_EXEC)
		return -EPERM;
	/* A private mapping would be a COW mapping, which can't be PFNMAP. */
	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (vma->vm_pgoff > npages ||
	    vma_pages(vma) > npages - vma->vm_pgoff)
		return -ENXIO;

	/* VM_IO: without it madvise(MADV_DOFORK) would clear VM_DONTCOPY. */
	vm_flags_set(vma, VM_PFNMAP | VM_IO | VM_DONTCOPY | VM_DONTEXPAND |
			  VM_DONTDUMP);
	vm_flags_clear(vma, VM_MAYEXEC);
	vma->vm_ops = ops;
	return 0;
}

#endif /* _OFFMAP_MODULE_H */
