package limits

// Where the sources are. A lore.kernel.org link is the Message-ID's.
const (
	// The commit that introduced memfd_secret, Linux 5.14.
	sourceCommit = "commit 1507f51255c9 (Mike Rapoport, Linux 5.14)"
	linkCommit   = "https://git.kernel.org/linus/1507f51255c9"

	// The commit that charges pages at their first touch, Linux 7.3.
	sourceCharge = "commit 97d34aa65c29 (Linux 7.3, and stable kernels)"
	linkCharge   = "https://git.kernel.org/linus/97d34aa65c29"

	// The commit that keeps the host from hibernating, of the same series.
	sourceHibernate = "commit 9a436f8ff631 (Mike Rapoport, Linux 5.14)"
	linkHibernate   = "https://git.kernel.org/linus/9a436f8ff631"

	// The proposal that memfd_secret grew from, and the answers to it.
	sourceExclusive  = "the patch that proposed MAP_EXCLUSIVE (Mike Rapoport, RFC, 2019)"
	linkExclusive    = "https://lore.kernel.org/lkml/1572171452-7958-2-git-send-email-rppt@kernel.org/"
	sourceReshetova  = "Elena Reshetova's answer to MAP_EXCLUSIVE, with MADV_SECRET (2019)"
	linkReshetova    = "https://lore.kernel.org/lkml/2236FBA76BA1254E88B949DDB74E612BA4EEC0CE@IRSMSX102.ger.corp.intel.com/"
	sourceLutomirski = "Andy Lutomirski's answer to MAP_EXCLUSIVE (2019)"
	linkLutomirski   = "https://lore.kernel.org/lkml/CALCETrUuuc4DS0cdMBtS550Wkp0x9ND3M3SgtaMgyRROnDR5Kg@mail.gmail.com/"

	// The patch that would have taken secret pages from a pool of 2 MiB ones.
	sourcePool = "\"secretmem: use PMD-size pages\", a patch that was not merged (Mike Rapoport, v8 5/9, 2020)"
	linkPool   = "https://lore.kernel.org/linux-mm/20201110151444.20662-6-rppt@kernel.org/"

	sourceManual = "memfd_secret(2)"
	linkManual   = "https://man7.org/linux/man-pages/man2/memfd_secret.2.html"
	// What no text says: the file's few operations.
	sourceCode = "mm/secretmem.c (Linux 6.12)"
	linkCode   = "https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/tree/mm/secretmem.c?h=v6.12"

	sourceMlock     = "mlock(2)"
	linkMlock       = "https://man7.org/linux/man-pages/man2/mlock.2.html"
	sourceUserfault = "userfaultfd, kernel documentation"
	linkUserfault   = "https://docs.kernel.org/admin-guide/mm/userfaultfd.html"
	sourceHugepage  = "transparent huge pages, kernel documentation"
	linkHugepage    = "https://docs.kernel.org/admin-guide/mm/transhuge.html"
)
