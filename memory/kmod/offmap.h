/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * offmap: the interface of /dev/offmap.
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

#endif /* _UAPI_OFFMAP_H */
