/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * offmap: the interface of /dev/offmap and, below, of /dev/offmap-removed.
 *
 * An open file of the device gives its opener a view of one memfd_secret(2)
 * file: bind the two with OFFMAP_IOC_BIND, then mmap() the device. Offset N of
 * the device is offset N of the secret file. Everything here is for the
 * process (strictly: the address space) that opened the device; it gets EPERM
 * in any other.
 *
 * mmap() of the device fails with
 *   EINVAL  not MAP_SHARED, or the device is not open for reading and writing
 *   ENXIO   not bound yet, or the range is not wholly inside the bound one
 *   EPERM   PROT_EXEC, or another address space than the opener's
 *
 * A page is allocated when the view or the secret mapping first touches it.
 * Where that can't be done (RLIMIT_MEMLOCK, or the secret mapping is gone from
 * where it was bound) the touch is a SIGBUS.
 */
#ifndef _UAPI_OFFMAP_H
#define _UAPI_OFFMAP_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* What OFFMAP_IOC_VERSION returns; changes when old callers would break. */
#define OFFMAP_ABI_VERSION	1

/**
 * struct offmap_bind - what OFFMAP_IOC_BIND binds an open device to
 * @flags: none defined, must be 0
 * @fd: from memfd_secret(2), with its size set
 * @addr: where the caller has @fd mapped from offset 0 on; page-aligned. This
 *	mapping populates the file, so it has to stay for as long as the view
 *	is used.
 * @len: bytes of @fd to offer in the view, from offset 0 on; a multiple of the
 *	page size, at most the file's size, and mapped at @addr throughout
 *
 * Once for an open file. Errors:
 *   EBADF   @fd is not an open file
 *   EBUSY   bound already
 *   EFAULT  @addr and @len are not a mapping of @fd from offset 0 on
 *   EINVAL  @fd is not from memfd_secret(2), or a field is out of range
 *   EPERM   another address space than the opener's
 */
struct offmap_bind {
	__u32 flags;
	__s32 fd;
	__aligned_u64 addr;
	__aligned_u64 len;
};

#define OFFMAP_IOC_MAGIC	0xB9

#define OFFMAP_IOC_VERSION	_IO(OFFMAP_IOC_MAGIC, 0x00)
#define OFFMAP_IOC_BIND		_IOW(OFFMAP_IOC_MAGIC, 0x01, struct offmap_bind)

/*
 * /dev/offmap-removed gives its opener RAM that has left the kernel. REMOVE takes
 * memory blocks out of the kernel, into a pool. ALLOC gives an open file memory of
 * the pool, once, and mmap() maps it. It is zero, and is cleared when the file goes.
 * mmap() fails as that of /dev/offmap does, with ENXIO before ALLOC.
 */

/**
 * struct offmap_remove - what OFFMAP_IOC_REMOVE takes out of the kernel
 * @start: physical address
 * @size: bytes; both are multiples of the block size (struct offmap_pool)
 *
 * Errors:
 *   EBUSY       the kernel can't move what it has there, or it is below the kernel's
 *               image or its crash kernel
 *   EDQUOT      more than the module's parameter removed_max allows
 *   EINTR       a signal came meanwhile
 *   EINVAL      @start and @size are not blocks of RAM
 *   ENODEV      the host encrypts its memory (SME)
 *   EOPNOTSUPP  the direct map has it in an entry of 1 GiB that is larger
 *   EPERM       no CAP_SYS_ADMIN
 */
struct offmap_remove {
	__aligned_u64 start;
	__aligned_u64 size;
};

/**
 * struct offmap_alloc - what OFFMAP_IOC_ALLOC gives an open file
 * @flags: none defined, must be 0
 * @reserved: must be 0
 * @len: bytes, a multiple of the page size; takes up whole chunks of 2 MiB
 *
 * Errors:
 *   EBUSY   the file has memory
 *   EINVAL  a field is out of range
 *   ENOSPC  there isn't as much in the pool
 *   EPERM   another address space than the opener's
 */
struct offmap_alloc {
	__u32 flags;
	__u32 reserved;
	__aligned_u64 len;
};

/**
 * struct offmap_pool - what OFFMAP_IOC_POOL says, in bytes
 * @block: the size of a memory block
 * @limit: the most that REMOVE takes out of the kernel
 * @removed: how much is out of it
 * @free: how much of that no file has
 */
struct offmap_pool {
	__aligned_u64 block;
	__aligned_u64 limit;
	__aligned_u64 removed;
	__aligned_u64 free;
};

#define OFFMAP_IOC_REMOVE	_IOW(OFFMAP_IOC_MAGIC, 0x10, struct offmap_remove)
#define OFFMAP_IOC_ALLOC	_IOW(OFFMAP_IOC_MAGIC, 0x11, struct offmap_alloc)
#define OFFMAP_IOC_POOL		_IOR(OFFMAP_IOC_MAGIC, 0x12, struct offmap_pool)
/* Gives blocks that no file uses back to the kernel. Takes CAP_SYS_ADMIN. */
#define OFFMAP_IOC_RESTORE	_IO(OFFMAP_IOC_MAGIC, 0x13)

#endif /* _UAPI_OFFMAP_H */
