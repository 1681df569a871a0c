//! Tasks of the project that are not part of the program: `cargo xtask facts`
//! writes the checked-in table of field facts from the upstream module, `golden`
//! checks decoding against its golden files, `answers` records what a kube-apiserver
//! says to test cases. Nothing here runs in a build or at run time.

mod answers;
mod facts;
mod go;
mod golden;
mod internal;
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
        Some("answers") => match (std::env::args().nth(2), std::env::args().nth(3)) {
            (Some(url), Some(token)) => answers::run(&url, &token),
            _ => bail!("usage: cargo xtask answers URL TOKEN"),
        },
        _ => bail!("usage: cargo xtask facts [OPENAPI_DUMP_DIR] | golden | answers URL TOKEN"),
    }
}
