/* SPDX-License-Identifier: GPL-2.0 */
/* The differences between kernels from 6.1 on. */
#ifndef _OFFMAP_COMPAT_H
#define _OFFMAP_COMPAT_H

#include <linux/mm.h>
#include <linux/slab.h>

#ifndef OFFMAP_HAVE_VM_FLAGS_SET
/* Linux 6.3 (bc292ab00f6c) has these; before, drivers set vm_flags directly. */
static inline void vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags |= flags;
}

static inline void vm_flags_clear(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags &= ~flags;
}
#endif

#ifndef kzalloc_obj /* 7.x has it in place of kzalloc(sizeof()) */
#define kzalloc_obj(obj, gfp) kzalloc(sizeof(obj), gfp)
#endif

#endif /* _OFFMAP_COMPAT_H */
