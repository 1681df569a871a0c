//! Carrack.
fn main() {}
