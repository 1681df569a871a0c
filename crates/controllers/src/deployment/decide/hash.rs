//! The hash that names a template's ReplicaSet and labels its pods.
//!
//! Upstream hashes a Go-syntax dump of the struct, so its values cannot be matched;
//! what matters is that equal templates hash equally, that the text is safe in
//! names, and that a collision count changes it.

use serde_json::Value;

/// Letters and digits without vowels and look-alikes, as apimachinery's `rand` uses.
const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// FNV-1a (32 bits) of the template and the number of collisions, safely encoded.
pub fn template_hash(template: &Value, collisions: Option<i32>) -> String {
    let collisions = collisions.map(i32::to_le_bytes);
    let text = template.to_string();
    let bytes = text.bytes().chain(collisions.into_iter().flatten());
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash.to_string().bytes().map(|digit| char::from(SAFE[usize::from(digit) % SAFE.len()])).collect()
}
