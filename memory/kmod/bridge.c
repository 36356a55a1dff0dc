// SPDX-License-Identifier: GPL-2.0
//go:build ignore

/*
 * /dev/offmap: a view of memfd_secret(2) pages that KVM can map into a guest.
 *
 * KVM reaches guest RAM through a host mapping. If the mapping is ordinary, KVM
 * pins its pages with get_user_pages(), which refuses secretmem. If it is
 * VM_PFNMAP, KVM reads the page frame numbers from the page table instead, and
 * its MMU notifier tells it when they go. So this driver maps the pages of a
 * secret file a second time, in a VM_PFNMAP VMA: the view. get_user_pages()
 * refuses the view too, so only users of page frame numbers get at the pages.
 *
 * Pages. secretmem's own fault handler allocates them. The view's fault
 * handler calls it on the process's ordinary mapping of the file (the owner).
 * secretmem's handler charges and zeroes the page, takes it off the direct map
 * and flushes TLBs; nothing of that is repeated here.
 *
 * Lifetime. The view holds no page references, and needs none: a page stays in
 * the secret file's page cache as long as the file lives. The file can't shrink
 * or have holes punched, and its pages are neither reclaimed nor migrated. The
 * view's VMA holds the device file, the device file holds the secret file, and
 * page table entries go before their VMA does.
 *
 * Locking. BIND writes a binding once, under offmap.lock, and publishes it by
 * setting .secret; readers need no lock. Only BIND takes offmap.lock, before
 * mmap_lock. mmap() is called with mmap_lock held, so it must not take
 * offmap.lock.
 */

#include <linux/file.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/overflow.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "module.h"
#include "offmap.h"

/**
 * struct offmap - an open file of the device
 * @mm: the opener's address space, the only one that may bind and map
 * @lock: serialises BIND
 * @secret: the bound secretmem file; NULL before BIND. Set last, with release
 *	semantics: a reader that sees it sees @addr and @npages too.
 * @addr: address in @mm of the mapping of @secret, from offset 0 on
 * @npages: how much of @secret the view offers
 */
struct offmap {
	struct mm_struct *mm;
	struct mutex lock; /* makes one of concurrent BINDs win */
	struct file *secret;
	unsigned long addr;
	unsigned long npages;
};

/*
 * In a mapping of @secret that begins at @base with offset 0, finds the VMA of
 * page @pgoff. Returns NULL if the process has something else at that address.
 */
static struct vm_area_struct *offmap_owner(struct mm_struct *mm,
					   struct file *secret,
					   unsigned long base, pgoff_t pgoff)
{
	unsigned long addr = base + (pgoff << PAGE_SHIFT);
	struct vm_area_struct *vma;

	mmap_assert_locked(mm);

	vma = vma_lookup(mm, addr);
	if (!vma || vma->vm_file != secret)
		return NULL;
	if (vma->vm_pgoff + ((addr - vma->vm_start) >> PAGE_SHIFT) != pgoff)
		return NULL;
	return vma;
}

/*
 * Called with mmap_lock held, not just the VMA's own lock: if a driver has
 * ->fault and no ->map_pages, the core retries with mmap_lock (6.6 and up,
 * vmf_can_call_fault()).
 */
static vm_fault_t offmap_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *view = vmf->vma;
	struct offmap *om = view->vm_file->private_data;
	struct vm_area_struct *owner;
	struct folio *folio;
	vm_fault_t ret;

	/* mmap() checked that this is the opener's mm; VM_DONTCOPY keeps it so. */
	owner = offmap_owner(view->vm_mm, om->secret, om->addr, vmf->pgoff);
	if (!owner)
		return VM_FAULT_SIGBUS;

	struct vm_fault populate = {
		.vma = owner,
		/* The secret file's mask: the device's would allow movable pages. */
		.gfp_mask = mapping_gfp_mask(om->secret->f_mapping) |
			    __GFP_FS | __GFP_IO,
		.pgoff = vmf->pgoff,
		.address = om->addr + (vmf->pgoff << PAGE_SHIFT),
		.real_address = om->addr + (vmf->pgoff << PAGE_SHIFT),
		.flags = vmf->flags,
	};

	ret = owner->vm_ops->fault(&populate);
	if (!(ret & VM_FAULT_LOCKED))
		return ret & VM_FAULT_ERROR ? ret : VM_FAULT_SIGBUS;

	/*
	 * Mark it dirty now, because nothing collects the dirty bits of a PFNMAP.
	 * soft_offline_page() would drop a clean page that no ordinary page table
	 * maps, even while the view maps it.
	 */
	folio = page_folio(populate.page);
	folio_mark_dirty(folio);

	ret = vmf_insert_pfn(view, vmf->address, page_to_pfn(populate.page));

	folio_unlock(folio);
	folio_put(folio);
	return ret;
}

static const struct vm_operations_struct offmap_vm_ops = {
	.fault = offmap_fault,
};

static int offmap_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct offmap *om = file->private_data;
	/* Pairs with offmap_bind(). */
	bool ready = smp_load_acquire(&om->secret);

	return offmap_map(vma, om->mm, ready ? om->npages : 0, &offmap_vm_ops);
}

/* Whether @len bytes at @addr in @mm map @secret from offset 0 on. */
static bool offmap_is_mapping(struct mm_struct *mm, struct file *secret,
			      unsigned long addr, unsigned long len)
{
	unsigned long done = 0;

	mmap_read_lock(mm);
	while (done < len) {
		struct vm_area_struct *vma =
			offmap_owner(mm, secret, addr, done >> PAGE_SHIFT);

		if (!vma)
			break;
		done = vma->vm_end - addr;
	}
	mmap_read_unlock(mm);

	return done >= len;
}

static int offmap_bind(struct offmap *om, const struct offmap_bind *req)
{
	struct file *secret;
	__u64 end;
	int ret;

	if (req->flags || !req->len || !PAGE_ALIGNED(req->addr | req->len) ||
	    check_add_overflow(req->addr, req->len, &end))
		return -EINVAL;

	secret = fget(req->fd);
	if (!secret)
		return -EBADF;

	mutex_lock(&om->lock);

	ret = -EBUSY;
	if (om->secret)
		goto out;

	ret = -EINVAL;
	if (file_inode(secret)->i_sb->s_magic != SECRETMEM_MAGIC)
		goto out;
	/* Once it is not 0, the size of a secret file never changes. */
	if (req->len > i_size_read(file_inode(secret)))
		goto out;

	ret = -EFAULT;
	if (!offmap_is_mapping(om->mm, secret, req->addr, req->len))
		goto out;

	om->addr = req->addr;
	om->npages = req->len >> PAGE_SHIFT;
	/* Pairs with offmap_mmap(). */
	smp_store_release(&om->secret, secret);
	secret = NULL;
	ret = 0;
out:
	mutex_unlock(&om->lock);
	if (secret)
		fput(secret);
	return ret;
}

static long offmap_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct offmap *om = file->private_data;
	struct offmap_bind req;

	switch (cmd) {
	case OFFMAP_IOC_VERSION:
		return OFFMAP_ABI_VERSION;
	case OFFMAP_IOC_BIND:
		if (current->mm != om->mm)
			return -EPERM;
		if (copy_from_user(&req, (void __user *)arg, sizeof(req)))
			return -EFAULT;
		return offmap_bind(om, &req);
	default:
		return -ENOTTY;
	}
}

static int offmap_open(struct inode *inode, struct file *file)
{
	struct offmap *om;

	/* Kernel threads have no mm. */
	if (!current->mm)
		return -EPERM;

	om = kzalloc_obj(*om, GFP_KERNEL_ACCOUNT);
	if (!om)
		return -ENOMEM;

	mutex_init(&om->lock);
	/*
	 * Holds the mm_struct and not its mappings, so that no later mm gets the
	 * same address.
	 */
	mmgrab(current->mm);
	om->mm = current->mm;
	file->private_data = om;
	return 0;
}

static int offmap_release(struct inode *inode, struct file *file)
{
	struct offmap *om = file->private_data;

	if (om->secret)
		fput(om->secret);
	mmdrop(om->mm);
	mutex_destroy(&om->lock);
	kfree(om);
	return 0;
}

static const struct file_operations offmap_fops = {
	.owner = THIS_MODULE,
	.open = offmap_open,
	.release = offmap_release,
	.mmap = offmap_mmap,
	.unlocked_ioctl = offmap_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

struct miscdevice offmap_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "offmap",
	.mode = 0600,
	.fops = &offmap_fops,
};
