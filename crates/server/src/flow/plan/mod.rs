//! What flow control decides: which schema a request falls under, how many requests a
//! level may serve, whose turn it is. Pure.

pub(crate) mod classify;
pub(crate) mod queues;
pub(crate) mod shares;
pub(crate) mod spec;
#[cfg(test)]
mod tests;
