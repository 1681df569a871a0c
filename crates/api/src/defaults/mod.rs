//! Defaults of built-in kinds, as upstream's `pkg/apis/*/v1/defaults.go` sets them
//! after decoding and before admission. What needs other objects, time or chance
//! (addresses, ports, uid, tokens) is the server's part.

use serde_json::Value;

use crate::Kind;

/// Sets the defaults of a decoded object of the kind's version `version`.
pub fn default_object(_kind: &Kind, _version: usize, _object: &mut Value) {}
