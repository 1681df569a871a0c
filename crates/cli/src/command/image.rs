//! `carrack image`: the images of this node, whether its cluster runs or not.

use anyhow::{Context, Result, bail, ensure};
use carrack_runtime::Runtime;

use crate::args::{Image, ImageAction};
use crate::dirs::Dirs;
use crate::{node, process};

/// Imports, lists or removes images.
///
/// # Errors
/// An archive cannot be read, or an image is not there or in use.
pub fn run(image: Image) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "images belong to the node and need root; try sudo");
    let dirs = Dirs::open(&image.at.data_dir)?;
    process::log("warn")?;
    process::runtime()?.block_on(async {
        let runtime = node::runtime(&dirs).await?;
        let done = act(&runtime, image.action).await;
        runtime.close();
        done
    })
}

async fn act(runtime: &dyn Runtime, action: ImageAction) -> Result<()> {
    match action {
        ImageAction::Import { files } => {
            for file in files {
                let images = runtime.import_image(&file).await;
                let images = images.with_context(|| format!("cannot import {}", file.display()))?;
                for image in images {
                    println!(" ✓ {}", image.repo_tags.first().unwrap_or(&image.id));
                }
            }
        }
        ImageAction::List => {
            let images = runtime.list_images().await?;
            let width = images.iter().flat_map(|i| &i.repo_tags).map(String::len).max().unwrap_or(0).max(9);
            println!("{:width$}  {:19}  {:>9}", "REFERENCE", "ID", "SIZE");
            for image in images {
                let id = image.id.get(..19).unwrap_or(&image.id);
                let size = format!("{:.1} MB", image.size as f64 / 1e6);
                let names = if image.repo_tags.is_empty() { vec!["<none>".into()] } else { image.repo_tags };
                for name in names {
                    println!("{name:width$}  {id:19}  {size:>9}");
                }
            }
        }
        ImageAction::Remove { reference } => {
            if runtime.image_status(&reference).await?.is_none() {
                bail!("there is no image {reference:?}; `carrack image list` shows those that are");
            }
            runtime.remove_image(&reference).await?;
            println!(" ✓ {reference} removed");
        }
    }
    Ok(())
}
