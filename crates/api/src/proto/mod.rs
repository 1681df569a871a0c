//! Kubernetes' protobuf: the `k8s\0` envelope and messages by the schema's field
//! numbers, both ways. Bounded on hostile input; never panics.

mod decode;
mod either;
mod encode;
mod envelope;
mod swagger;
mod wire;

#[cfg(test)]
mod tests;

pub use decode::decode;
pub use encode::encode;
pub use envelope::{Envelope, MAGIC, list, metadata, open, watch_frame, wrap};
pub use swagger::{SWAGGER, SWAGGER_ASKED, swagger};
