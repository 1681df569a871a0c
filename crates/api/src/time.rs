//! `metav1.Time` and `MicroTime` in canonical text.
