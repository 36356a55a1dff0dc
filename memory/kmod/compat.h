/* SPDX-License-Identifier: GPL-2.0 */
/* What differs between the kernels that the module builds for, 6.1 and up. */
#ifndef _OFFMAP_COMPAT_H
#define _OFFMAP_COMPAT_H

#include <linux/mm.h>
#include <linux/slab.h>

#ifndef OFFMAP_HAVE_VM_FLAGS_SET
/* Linux 6.3 (bc292ab00f6c) put these between drivers and vm_flags. */
static inline void vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags |= flags;
}

static inline void vm_flags_clear(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags &= ~flags;
}
#endif

#ifndef kzalloc_obj /* what 7.x has in place of kzalloc(sizeof()) */
#define kzalloc_obj(obj, gfp) kzalloc(sizeof(obj), gfp)
#endif

#endif /* _OFFMAP_COMPAT_H */
