//! `carrack server`: the control plane alone, in the foreground, without root.

use anyhow::Result;
use carrack_client::Identity;

use crate::args;
use crate::dirs::Dirs;
use crate::plane::{Options, Plane};
use crate::{process, simulate};

/// Serves until it is told to stop.
///
/// # Errors
/// It cannot start: a port is taken, the directory is in use or not ours to write.
pub fn run(server: args::Server) -> Result<()> {
    let dirs = Dirs::open(&server.at.data_dir)?;
    let config = server.settings.resolve(dirs.root())?;
    process::log(&config.log)?;
    let fleet = simulate::fleet(&server.simulate)?;
    let held = dirs.hold()?;
    process::raise_file_limit();
    let options = Options { store: server.store, disable: server.disable };
    process::runtime()?.block_on(async {
        let plane = Plane::start(&dirs, &config, &options).await?;
        println!("serving at {}; kubeconfig: {}", plane.url(), dirs.kubeconfig().display());
        let identity = Identity::user(simulate::USER, &["system:masters"]);
        let client = plane.client(&identity).with_manager("kubelet");
        let simulation = fleet.map(|f| simulate::start(f, &server.simulate, client, plane.source().clone()));
        process::told_to_stop().await?;
        if let Some(simulation) = simulation {
            simulation.stop().await;
        }
        plane.stop().await;
        drop(held);
        Ok(())
    })
}
