package audit

import (
	"encoding/json"
	"fmt"
	"os"

	"offmap/memory/attach"
)

// reportedAttach reads from a guest's report how its RAM got into KVM.
func reportedAttach(f *os.File) (attach.Method, error) {
	var doc struct {
		Attach attach.Method `json:"attach"`
	}
	if err := json.NewDecoder(f).Decode(&doc); err != nil {
		return "", fmt.Errorf("the guest's report: %w", err)
	}
	return doc.Attach, nil
}
