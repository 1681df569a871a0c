//! `carrack kubeconfig`: prints the administrator's.

use anyhow::{Context, Result};

use crate::args::DataDir;
use crate::dirs::Dirs;

/// Prints the kubeconfig of the data directory.
///
/// # Errors
/// There is no cluster in the directory, or the file is not ours to read.
pub fn run(at: &DataDir) -> Result<()> {
    let dirs = Dirs::existing(&at.data_dir)?.with_context(|| {
        format!("there is no cluster in {}; `carrack up` starts one", at.data_dir.display())
    })?;
    let path = dirs.kubeconfig();
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    print!("{text}");
    Ok(())
}
