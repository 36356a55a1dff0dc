// SPDX-License-Identifier: GPL-2.0
//go:build ignore

/*
 * /dev/offmap-removed: RAM that has left the kernel, for KVM guests.
 *
 * REMOVE takes whole memory blocks out of the kernel at run time. It offlines and
 * removes them, as for memory that is about to be unplugged. The direct map loses
 * their entries, and gains none: a block is a multiple of what an entry maps.
 * They go into a pool. ALLOC gives an open file memory of the pool, in chunks of
 * 2 MiB, and mmap() maps it as VM_PFNMAP, with 2 MiB entries from Linux 6.12 on.
 * RESTORE adds blocks that nobody uses to the kernel again. The module does so
 * itself a while after a file has gone, and when it is unloaded.
 *
 * Zeros. Memory in the pool is zero: what the kernel left in a block is cleared
 * when it is removed, and what a file left in a chunk when the file goes, however
 * its owner has ended. The kernel maps it for the time of that.
 *
 * Memory type. For what isn't the kernel's RAM, vmf_insert_pfn() uses the memory
 * type that somebody has reserved (arch/x86/mm/pat/memtype.c), and without a
 * reservation uncached. ioremap_cache() reserves write-back. Its mapping goes at
 * once and the reservation stays, until RESTORE.
 *
 * Lifetime. A chunk is in use for as long as its file. VMAs hold the file, and
 * KVM's MMU notifier drops a VMA's pages before the VMA goes.
 *
 * Locking. removed_lock covers the pool, and is held while memory is removed,
 * added and cleared. ALLOC takes it and publishes a file's chunks once, with
 * .chunks; faults and mmap() need no lock.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitmap.h>
#include <linux/cc_platform.h>
#include <linux/fs.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/list.h>
#include <linux/memory.h>
#include <linux/memory_hotplug.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>

#include "module.h"
#include "offmap.h"

#define CHUNK_PAGES (PMD_SIZE >> PAGE_SHIFT)

static unsigned long removed_max;
module_param(removed_max, ulong, 0444);
MODULE_PARM_DESC(removed_max,
		 "most MiB of RAM to take out of the kernel (0: half of it)");

static unsigned int removed_keep = 60;
module_param(removed_keep, uint, 0644);
MODULE_PARM_DESC(removed_keep,
		 "seconds after which memory that nobody uses goes back");

/**
 * struct removed_block - memory that was removed at once
 * @list: in removed_blocks
 * @start: physical address
 * @size: bytes
 * @nid: the node that it goes back to
 * @res: keeps /dev/mem out of it, and shows it in /proc/iomem
 * @name: that of @res
 * @reserved: its memory type is reserved
 * @clear: it was cleared, so that it can be handed out
 * @used: bits of the chunks that aren't free. Behind them are those of chunks that
 *	no file has, and that are still to be cleared: removed_dirty().
 */
struct removed_block {
	struct list_head list;
	u64 start;
	u64 size;
	int nid;
	struct resource *res;
	char name[16];
	bool reserved;
	bool clear;
	unsigned long used[];
};

/**
 * struct removed_file - an open file of the device
 * @mm: the opener's address space, the only one that may map it
 * @npages: its size
 * @nchunks: how many chunks that takes
 * @chunks: their physical addresses; NULL before ALLOC. Set last, with release
 *	semantics.
 */
struct removed_file {
	struct mm_struct *mm;
	unsigned long npages;
	unsigned long nchunks;
	u64 *chunks;
};

static DEFINE_MUTEX(removed_lock);
static LIST_HEAD(removed_blocks);
static u64 removed_total; /* bytes in removed_blocks */
static u64 removed_limit; /* the most of it */

static unsigned long removed_chunks(const struct removed_block *b)
{
	return b->size / PMD_SIZE;
}

static unsigned long *removed_dirty(struct removed_block *b)
{
	return b->used + BITS_TO_LONGS(removed_chunks(b));
}

static unsigned long removed_free(const struct removed_block *b)
{
	if (!b->clear)
		return 0;
	return removed_chunks(b) - bitmap_weight(b->used, removed_chunks(b));
}

static void removed_zero(void *p, u64 size)
{
	u64 done;

	for (done = 0; done < size; done += PMD_SIZE) {
		memset(p + done, 0, PMD_SIZE);
		cond_resched();
	}
}

/*
 * Whether the direct map has entries of 1 GiB that are partly in the range. The
 * kernel can't remove a part of one: remove_pud_table() would take the memory
 * behind it for a page table.
 */
static bool removed_in_larger_entry(u64 start, u64 size)
{
	u64 addr, step;

	for (addr = start; addr < start + size; addr += step) {
		unsigned int level;

		step = PMD_SIZE;
		if (!lookup_address((unsigned long)__va(addr), &level))
			continue;
		if (level <= PG_LEVEL_2M)
			continue;
		step = PUD_SIZE;
		if (level != PG_LEVEL_1G || !IS_ALIGNED(addr, PUD_SIZE) ||
		    start + size - addr < PUD_SIZE)
			return true;
	}
	return false;
}

/*
 * Whether the kernel uses all of the range. offline_and_remove_memory() doesn't look,
 * and removes what isn't there.
 */
static bool removed_is_online(u64 start, u64 size)
{
	unsigned long pfn;

	for (pfn = PHYS_PFN(start); pfn < PHYS_PFN(start + size);
	     pfn += PAGES_PER_SECTION) {
		if (!pfn_to_online_page(pfn))
			return false;
	}
	return true;
}

static int removed_found(struct resource *res, void *unused)
{
	return 1;
}

/*
 * Whether the kernel's image or its crash kernel's memory is above the range. They are
 * children of their range of System RAM, and release_mem_region_adjustable() can't
 * split one below a child: what is removed could never be added again. This also
 * refuses a range in another resource, since a module can't look that up.
 */
static bool removed_is_below_child(u64 start, u64 size)
{
	if (start < __pa_symbol(offline_and_remove_memory))
		return true;
	return walk_iomem_res_desc(IORES_DESC_CRASH_KERNEL,
				   IORESOURCE_SYSTEM_RAM | IORESOURCE_BUSY,
				   start + size, -1, NULL, removed_found) > 0;
}

/* Gives a block back to the kernel, from whatever state removed_take() left it in. */
static int removed_give(struct removed_block *b)
{
	int ret;

	lockdep_assert_held(&removed_lock);

	if (b->reserved)
		arch_io_free_memtype_wc(b->start, b->size);
	b->reserved = false;
	if (b->res)
		release_mem_region(b->start, b->size);
	b->res = NULL;

	ret = add_memory(b->nid, b->start, b->size, MHP_MERGE_RESOURCE);
	if (ret) {
		/* Never handed out again: /dev/mem may have mapped it meanwhile. */
		b->clear = false;
		pr_err("%llu MiB at %#llx can't be given back: error %d\n",
		       b->size >> 20, b->start, ret);
		return ret;
	}
	list_del(&b->list);
	removed_total -= b->size;
	kfree(b);
	return 0;
}

static int removed_take(u64 start, u64 size)
{
	u64 unit = memory_block_size_bytes();
	struct removed_block *b;
	void *p;
	int ret;

	lockdep_assert_held(&removed_lock);

	if (!size || !IS_ALIGNED(start | size, unit) || start + size < start)
		return -EINVAL;
	if (size > removed_limit - removed_total)
		return -EDQUOT;
	/* ioremap_cache() maps it without encryption, and mmap() with it. */
	if (cc_platform_has(CC_ATTR_MEM_ENCRYPT))
		return -ENODEV;
	if (!removed_is_online(start, size))
		return -EINVAL;
	if (removed_is_below_child(start, size))
		return -EBUSY;
	if (removed_in_larger_entry(start, size))
		return -EOPNOTSUPP;

	b = kzalloc(struct_size(b, used, 2 * BITS_TO_LONGS(size / PMD_SIZE)),
		    GFP_KERNEL);
	if (!b)
		return -ENOMEM;
	b->start = start;
	b->size = size;
	b->nid = memory_add_physaddr_to_nid(start);

	ret = offline_and_remove_memory(start, size);
	if (ret) {
		kfree(b);
		return ret;
	}
	list_add_tail(&b->list, &removed_blocks);
	removed_total += size;

	ret = -EBUSY;
	strscpy(b->name, "offmap removed", sizeof(b->name));
	b->res = request_mem_region_exclusive(start, size, b->name);
	if (!b->res)
		goto give;
	ret = -ENOMEM;
	p = ioremap_cache(start, size);
	if (!p)
		goto give;
	b->reserved = true;
	removed_zero(p, size);
	vunmap(p); /* and not iounmap(), which would free the reservation */
	b->clear = true;
	return 0;

give:
	removed_give(b);
	return ret;
}

/*
 * Clears a chunk that no file has any more, and puts it back into the pool. If the
 * kernel has no memory to map it for that, nobody gets it until another attempt has
 * worked.
 */
static int removed_put(struct removed_block *b, unsigned long i)
{
	void *p = memremap(b->start + i * PMD_SIZE, PMD_SIZE, MEMREMAP_WB);

	if (!p) {
		__set_bit(i, removed_dirty(b));
		return -ENOMEM;
	}
	removed_zero(p, PMD_SIZE);
	memunmap(p);
	__clear_bit(i, removed_dirty(b));
	__clear_bit(i, b->used);
	return 0;
}

/* Gives back all blocks that no file uses. Returns the first error. */
static int removed_give_unused(void)
{
	struct removed_block *b, *next;
	int ret = 0;

	lockdep_assert_held(&removed_lock);

	list_for_each_entry_safe(b, next, &removed_blocks, list) {
		unsigned long i;
		int err = 0;

		for_each_set_bit(i, removed_dirty(b), removed_chunks(b))
			err = removed_put(b, i) ?: err;
		if (!err && bitmap_empty(b->used, removed_chunks(b)))
			err = removed_give(b);
		if (err && !ret)
			ret = err;
	}
	return ret;
}

static void removed_work_fn(struct work_struct *work);
static DECLARE_DELAYED_WORK(removed_work, removed_work_fn);

static void removed_work_fn(struct work_struct *work)
{
	int ret;

	mutex_lock(&removed_lock);
	ret = removed_give_unused();
	mutex_unlock(&removed_lock);
	if (ret == -ENOMEM) /* which passes */
		queue_delayed_work(system_long_wq, &removed_work, 60 * HZ);
}

/* Puts a file's chunk back. */
static void removed_put_chunk(u64 chunk)
{
	struct removed_block *b;

	lockdep_assert_held(&removed_lock);

	list_for_each_entry(b, &removed_blocks, list) {
		if (chunk < b->start || chunk - b->start >= b->size)
			continue;
		removed_put(b, (chunk - b->start) / PMD_SIZE);
		return;
	}
	WARN_ON_ONCE(1);
}

static int removed_alloc(struct removed_file *f, const struct offmap_alloc *req)
{
	unsigned long n, want, have = 0;
	struct removed_block *b;
	u64 *chunks;
	int ret;

	if (req->flags || req->reserved || !req->len || !PAGE_ALIGNED(req->len))
		return -EINVAL;
	if (req->len > removed_limit)
		return -ENOSPC;
	want = DIV_ROUND_UP_ULL(req->len, PMD_SIZE);

	chunks = kvcalloc(want, sizeof(*chunks), GFP_KERNEL_ACCOUNT);
	if (!chunks)
		return -ENOMEM;

	mutex_lock(&removed_lock);

	ret = -EBUSY;
	if (f->chunks)
		goto out;

	list_for_each_entry(b, &removed_blocks, list)
		have += removed_free(b);
	ret = -ENOSPC;
	if (have < want)
		goto out;

	n = 0;
	list_for_each_entry(b, &removed_blocks, list) {
		unsigned long i;

		if (!b->clear)
			continue;
		for_each_clear_bit(i, b->used, removed_chunks(b)) {
			if (n == want)
				break;
			__set_bit(i, b->used);
			chunks[n++] = b->start + i * PMD_SIZE;
		}
	}

	f->nchunks = want;
	f->npages = req->len >> PAGE_SHIFT;
	/* Pairs with removed_mmap(). */
	smp_store_release(&f->chunks, chunks);
	chunks = NULL;
	ret = 0;
out:
	mutex_unlock(&removed_lock);
	kvfree(chunks);
	return ret;
}

static void removed_pool(struct offmap_pool *pool)
{
	struct removed_block *b;

	mutex_lock(&removed_lock);
	pool->block = memory_block_size_bytes();
	pool->limit = removed_limit;
	pool->removed = removed_total;
	pool->free = 0;
	list_for_each_entry(b, &removed_blocks, list)
		pool->free += removed_free(b) * PMD_SIZE;
	mutex_unlock(&removed_lock);
}

static unsigned long removed_pfn(const struct removed_file *f, pgoff_t pgoff)
{
	return (f->chunks[pgoff / CHUNK_PAGES] >> PAGE_SHIFT) +
	       pgoff % CHUNK_PAGES;
}

/* Inserts the pages of the chunk that the VMA has, the wanted one first. */
static vm_fault_t removed_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct removed_file *f = vma->vm_file->private_data;
	pgoff_t first = round_down(vmf->pgoff, CHUNK_PAGES), pgoff;
	vm_fault_t ret;

	ret = vmf_insert_pfn(vma, vmf->address, removed_pfn(f, vmf->pgoff));
	if (ret != VM_FAULT_NOPAGE)
		return ret;

	for (pgoff = max(first, vma->vm_pgoff);
	     pgoff < min(first + CHUNK_PAGES, vma->vm_pgoff + vma_pages(vma));
	     pgoff++) {
		unsigned long addr = vma->vm_start +
				     ((pgoff - vma->vm_pgoff) << PAGE_SHIFT);

		if (vmf_insert_pfn(vma, addr, removed_pfn(f, pgoff)) !=
		    VM_FAULT_NOPAGE)
			break; /* the page's own fault will report it */
	}
	return VM_FAULT_NOPAGE;
}

#ifdef OFFMAP_HAVE_HUGE_PFN
static vm_fault_t removed_huge_fault(struct vm_fault *vmf, unsigned int order)
{
	struct vm_area_struct *vma = vmf->vma;
	unsigned long addr = vmf->address & PMD_MASK;
	pgoff_t pgoff;

	if (order != PMD_ORDER || addr < vma->vm_start ||
	    vma->vm_end - addr < PMD_SIZE)
		return VM_FAULT_FALLBACK;
	pgoff = vma->vm_pgoff + ((addr - vma->vm_start) >> PAGE_SHIFT);
	if (pgoff % CHUNK_PAGES)
		return VM_FAULT_FALLBACK;

	return offmap_insert_pmd(vmf,
				 removed_pfn(vma->vm_file->private_data, pgoff),
				 vma->vm_flags & VM_WRITE);
}
#endif

static const struct vm_operations_struct removed_vm_ops = {
	.fault = removed_fault,
#ifdef OFFMAP_HAVE_HUGE_PFN
	.huge_fault = removed_huge_fault,
#endif
};

static int removed_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct removed_file *f = file->private_data;
	/* Pairs with removed_alloc(). */
	bool ready = smp_load_acquire(&f->chunks);

	return offmap_map(vma, f->mm, ready ? f->npages : 0, &removed_vm_ops);
}

static long removed_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct removed_file *f = file->private_data;
	void __user *argp = (void __user *)arg;
	struct offmap_remove remove;
	struct offmap_alloc alloc;
	struct offmap_pool pool;
	int ret;

	switch (cmd) {
	case OFFMAP_IOC_VERSION:
		return OFFMAP_ABI_VERSION;
	case OFFMAP_IOC_POOL:
		removed_pool(&pool);
		return copy_to_user(argp, &pool, sizeof(pool)) ? -EFAULT : 0;
	case OFFMAP_IOC_REMOVE:
		if (!capable(CAP_SYS_ADMIN))
			return -EPERM;
		if (copy_from_user(&remove, argp, sizeof(remove)))
			return -EFAULT;
		if (mutex_lock_killable(&removed_lock))
			return -EINTR;
		ret = removed_take(remove.start, remove.size);
		mutex_unlock(&removed_lock);
		return ret;
	case OFFMAP_IOC_RESTORE:
		if (!capable(CAP_SYS_ADMIN))
			return -EPERM;
		if (mutex_lock_killable(&removed_lock))
			return -EINTR;
		ret = removed_give_unused();
		mutex_unlock(&removed_lock);
		return ret;
	case OFFMAP_IOC_ALLOC:
		if (current->mm != f->mm)
			return -EPERM;
		if (copy_from_user(&alloc, argp, sizeof(alloc)))
			return -EFAULT;
		return removed_alloc(f, &alloc);
	default:
		return -ENOTTY;
	}
}

static int removed_open(struct inode *inode, struct file *file)
{
	struct removed_file *f;

	/* Kernel threads have no mm. */
	if (!current->mm)
		return -EPERM;

	f = kzalloc_obj(*f, GFP_KERNEL_ACCOUNT);
	if (!f)
		return -ENOMEM;

	/* So that no later mm gets the same address; see offmap_open(). */
	mmgrab(current->mm);
	f->mm = current->mm;
	file->private_data = f;
	return 0;
}

static int removed_release(struct inode *inode, struct file *file)
{
	struct removed_file *f = file->private_data;
	unsigned long i;

	if (f->chunks) {
		mutex_lock(&removed_lock);
		for (i = 0; i < f->nchunks; i++)
			removed_put_chunk(f->chunks[i]);
		mutex_unlock(&removed_lock);
		kvfree(f->chunks);
		mod_delayed_work(system_long_wq, &removed_work,
				 removed_keep * HZ);
	}
	mmdrop(f->mm);
	kfree(f);
	return 0;
}

static const struct file_operations removed_fops = {
	.owner = THIS_MODULE,
	.open = removed_open,
	.release = removed_release,
	.mmap = removed_mmap,
	.get_unmapped_area = thp_get_unmapped_area, /* at 2 MiB */
	.unlocked_ioctl = removed_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

struct miscdevice removed_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "offmap-removed",
	.mode = 0600,
	.fops = &removed_fops,
};

int removed_init(void)
{
	removed_limit = (u64)removed_max << 20;
	if (!removed_limit)
		removed_limit = ((u64)totalram_pages() << PAGE_SHIFT) / 2;
	return misc_register(&removed_device);
}

/* No file is open any more. */
void removed_exit(void)
{
	struct removed_block *b, *next;

	misc_deregister(&removed_device);
	cancel_delayed_work_sync(&removed_work);

	mutex_lock(&removed_lock);
	removed_give_unused();
	/*
	 * What can't be given back is the kernel's again after a boot. A block with a
	 * chunk that wasn't cleared keeps its resource, and so its name in memory.
	 */
	list_for_each_entry_safe(b, next, &removed_blocks, list) {
		list_del(&b->list);
		if (!b->res)
			kfree(b);
	}
	mutex_unlock(&removed_lock);
}
