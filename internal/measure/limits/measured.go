package limits

// measured are the limits that take a measurement, a guest or a device to
// see.
func measured() (all []Limit) {
	for _, group := range [][]Limit{
		directMapLimits(),
		touchLimits(),
		wipeLimits(),
		snapshotLimits(),
		registerLimits(),
		ioLimits(),
		bootFileLimits(),
		diskLimits(),
		uncachedLimits(),
		paravirtualLimits(),
		dirtyLimits(),
		unmapLimits(),
		dmaLimits(),
		ownerLimits(),
		kdumpLimits(),
	} {
		all = append(all, group...)
	}
	return all
}
