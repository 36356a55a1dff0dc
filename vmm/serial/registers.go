package serial

// Register offsets and bits of the 16550A (National Semiconductor PC16550D
// data sheet, section 8; the names are those of Linux's serial_reg.h).
const (
	regData    = 0 // RBR on reads, THR on writes; DLL with DLAB
	regIER     = 1 // DLM with DLAB
	regIIR     = 2 // FCR on writes
	regLCR     = 3
	regMCR     = 4
	regLSR     = 5
	regMSR     = 6
	regScratch = 7

	ierReceive  = 1 << 0
	ierTransmit = 1 << 1
	ierLine     = 1 << 2
	ierMask     = 0x0f // drivers tell later chips by the other bits

	iirNone        = 0x01
	iirTransmit    = 0x02
	iirReceive     = 0x04
	iirLine        = 0x06
	iirReceiveTime = 0x0c // data below the trigger level
	iirFIFO        = 0xc0

	fcrEnable       = 1 << 0
	fcrClearReceive = 1 << 1
	fcrTriggerShift = 6

	lcrDLAB = 1 << 7

	mcrDTR  = 1 << 0
	mcrRTS  = 1 << 1
	mcrOut1 = 1 << 2
	mcrOut2 = 1 << 3
	mcrLoop = 1 << 4
	mcrMask = 0x1f

	lsrData    = 1 << 0
	lsrOverrun = 1 << 1
	lsrEmpty   = 1<<5 | 1<<6 // holding register and transmitter

	msrCTS = 1 << 4
	msrDSR = 1 << 5
	msrRI  = 1 << 6
	msrDCD = 1 << 7
)

const fifoSize = 16

// triggers are the receive FIFO's levels by FCR's two upper bits.
var triggers = [4]int{1, 4, 8, 14}
