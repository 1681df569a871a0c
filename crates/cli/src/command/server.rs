//! `carrack server`: the control plane alone, in the foreground, without root.

use anyhow::Result;

use crate::args;
use crate::dirs::Dirs;
use crate::plane::{Options, Plane};
use crate::process;

/// Serves until it is told to stop.
///
/// # Errors
/// It cannot start: a port is taken, the directory is in use or not ours to write.
pub fn run(server: args::Server) -> Result<()> {
    let dirs = Dirs::open(&server.at.data_dir)?;
    let config = server.settings.resolve(dirs.root())?;
    process::log(&config.log)?;
    let held = dirs.hold()?;
    let options = Options { store: server.store, disable: server.disable };
    process::runtime()?.block_on(async {
        let plane = Plane::start(&dirs, &config, &options).await?;
        println!("serving at {}; kubeconfig: {}", plane.url(), dirs.kubeconfig().display());
        process::told_to_stop().await?;
        plane.stop().await;
        drop(held);
        Ok(())
    })
}
