//! For tests: machines made of namespaces with no route out, in which a whole cluster
//! runs and of which no trace remains; images from Debian's packages; a registry; and
//! upstream's programs.
//!
//! Everything is bounded in time. What a test starts ends with the test: a machine's
//! first process takes the whole of its process namespace with it.

pub mod bench;
pub mod cluster;
pub mod conformance;
pub mod differential;
pub mod follow;
pub mod https;
pub mod images;
pub mod load;
pub mod machine;
pub mod paths;
pub mod plane;
pub mod process;
pub mod programs;
pub mod registry;
pub mod scale;
pub mod script;
pub mod server;
pub mod services;
pub mod traces;
pub mod vm;
pub mod writes;

pub use cluster::Cluster;
pub use machine::Machine;
