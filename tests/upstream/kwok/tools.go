//go:build tools

// Package kwok names the command that `make upstream` builds, and its stages, which the test reads from the module.
package kwok

import _ "sigs.k8s.io/kwok/cmd/kwok"
