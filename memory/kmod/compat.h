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

#ifdef OFFMAP_HAVE_HUGE_PFN
#ifdef OFFMAP_HAVE_PFN_T
#include <linux/pfn_t.h>
#define offmap_insert_pmd(vmf, pfn, write) \
	vmf_insert_pfn_pmd(vmf, pfn_to_pfn_t(pfn), write)
#else
#define offmap_insert_pmd(vmf, pfn, write) vmf_insert_pfn_pmd(vmf, pfn, write)
#endif
#endif

#endif /* _OFFMAP_COMPAT_H */
