//! `make test-vm`: power cuts. `carrack server` runs in a virtual machine on a disk whose
//! cache is lost in part, and out of order, when the power goes; requests of the disk are
//! the clock by which it goes. After each cut the machine boots on what is left.
//!
//! Timings are no matter here: the machine is emulated. A seed repeats the choices, not
//! the interleaving in the machine.

pub mod disk;
pub mod guest;
pub mod initramfs;
pub mod kernel;
pub mod load;
pub mod nbd;

mod clock;
mod cuts;
mod first;

pub use clock::moved_clock;
pub use cuts::cuts_under_load;
pub use first::cuts_of_first_starts;
