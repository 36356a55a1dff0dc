package boot

import (
	"slices"

	"offmap/vmm/pci"
	"offmap/vmm/power"
	"offmap/vmm/pvpanic"
)

// dsdtCode returns the AML of the DSDT. _S5 tells the guest what to write into SLP_TYP
// to turn the machine off. PCI0 is the root of PCI bus 0, whose functions have no
// INTx, so there is no _PRT. PEVT is the panic device.
func dsdtCode() []byte {
	return slices.Concat(
		amlNamed("_S5_", amlPackaged(amlInteger(power.SleepS5), amlInteger(power.SleepS5), amlInteger(0), amlInteger(0))),
		amlScoped("_SB_",
			amlDeviced("PCI0",
				amlNamed("_HID", amlEISA("PNP0A03")),
				amlNamed("_CRS", amlResources(
					amlBuses(0, 0),
					amlPorts(pci.ConfigPort, pci.ConfigSize),
					amlMemory(uint32(pci.WindowStart), pci.WindowSize),
				)),
			),
			amlDeviced("PEVT",
				amlNamed("_HID", amlText("QEMU0001")),
				amlNamed("_CRS", amlResources(amlPorts(pvpanic.Port, pvpanic.Size))),
			),
		),
	)
}
