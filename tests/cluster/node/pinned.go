//go:build pinned

// Package node pins in go.mod, with a checksum, the module whose files are wanted and not its code: the Gateway API's CRDs.
package node

import _ "sigs.k8s.io/gateway-api/pkg/consts"
