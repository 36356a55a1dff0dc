package probe

import "context"

// Try runs a small guest with the pair on this host.
func (p Pair) Try() Trial { return p.try(context.Background(), "") }
