//! Tasks of the project that are not part of the program: `cargo xtask facts`
//! writes the checked-in table of field facts from the upstream module, `golden`
//! checks decoding against its golden files. Nothing here runs in a build or at run
//! time.

mod facts;
mod go;
mod golden;
mod kinds;
mod openapi;
mod proto;
mod upstream;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let task = std::env::args().nth(1);
    match task.as_deref() {
        Some("facts") => facts::run(),
        Some("golden") => golden::run(),
        _ => bail!("usage: cargo xtask facts [OPENAPI_DUMP_DIR] | golden"),
    }
}
