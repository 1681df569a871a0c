//! Image operations of the builtin runtime: the store's, moved off the async threads.

use std::path::Path;
use std::sync::Arc;

use crate::builtin::{Shared, blocking};
use crate::error::Result;
use crate::image;
use crate::traits::{ImageStatus, RegistryAuth};

pub(super) async fn pull(
    shared: &Arc<Shared>,
    reference: &str,
    auth: Option<RegistryAuth>,
) -> Result<ImageStatus> {
    shared.registries.pull(&shared.images, reference, auth.as_ref()).await
}

pub(super) async fn import(shared: &Arc<Shared>, archive: &Path) -> Result<Vec<ImageStatus>> {
    let (store, archive) = (shared.images.clone(), archive.to_path_buf());
    blocking(move || image::import(&store, &archive)).await
}

pub(super) async fn list(shared: &Arc<Shared>) -> Result<Vec<ImageStatus>> {
    let store = shared.images.clone();
    blocking(move || Ok(store.list()?.into_iter().map(|i| i.status).collect())).await
}

pub(super) async fn status(shared: &Arc<Shared>, reference: &str) -> Result<Option<ImageStatus>> {
    let (store, reference) = (shared.images.clone(), reference.to_owned());
    blocking(move || Ok(store.find(&reference)?.map(|i| i.status))).await
}

pub(super) async fn remove(shared: &Arc<Shared>, reference: &str) -> Result<()> {
    let (store, reference) = (shared.images.clone(), reference.to_owned());
    blocking(move || store.remove(&reference)).await
}
