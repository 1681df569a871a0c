//! Label and field selectors.

mod fields;
mod labels;
mod object;
mod parse;

pub use fields::Fields;
pub use labels::{Labels, Operator, Requirement};
pub use object::validate;

/// Why a selector could not be read; displays as upstream words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);
