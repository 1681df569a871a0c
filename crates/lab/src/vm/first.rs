//! Power cuts of very first starts: whatever is half there, the next start goes on with it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::guest::{Boot, Computer};
use crate::writes::{MAPS, next, send};

/// When the power goes if the disk is left alone.
const LATEST: Duration = Duration::from_secs(120);

/// Cuts the power in `cuts` first starts, spread over all that a first start does, then in
/// the middle of the start after it; the third one must serve. What a client was given by
/// then holds over one more cut.
///
/// # Errors
/// What is wrong.
pub async fn cuts_of_first_starts(dir: &Path, cuts: u64, seed: &mut u64) -> Result<()> {
    let mut computer = Computer::new(dir, false)?;
    let empty = computer.disk.medium();
    let mut guest = computer.boot(Boot::default())?;
    guest.ready().await?;
    drop(guest);
    let whole = computer.disk.served();
    println!("a first start makes {whole} requests of the disk");
    for number in 0..cuts {
        let context = || format!("first start {number}");
        computer.disk.replace(&empty);
        let share = whole.div_ceil(cuts);
        for within in [number * share + next(seed) % share, next(seed) % whole] {
            let guest = computer.boot(Boot::default())?;
            computer.disk.cut_after(within, 0);
            let cut =
                tokio::task::block_in_place(|| computer.cut(guest, LATEST, seed)).with_context(context)?;
            println!("first start {number}: {cut}");
        }
        let mut guest = computer.boot(Boot { check: true, ..Boot::default() })?;
        let client = guest.ready().await.with_context(context)?;
        let body = json!({"metadata": {"name": "first"}});
        let made = send(&client, "POST", MAPS, &body).await;
        ensure!(made.as_ref().is_some_and(|(code, _)| *code == 201), "first start {number}: {made:?}");
        tokio::task::block_in_place(|| computer.cut(guest, Duration::ZERO, seed)).with_context(context)?;
        let mut guest = computer.boot(Boot { check: true, ..Boot::default() })?;
        guest.ready().await.with_context(context)?;
        let found = send(&client, "GET", &format!("{MAPS}/first"), &Value::Null).await;
        let holds = found.as_ref().is_some_and(|(code, _)| *code == 200);
        ensure!(holds, "first start {number}: a client is not known any more: {found:?}");
    }
    Ok(())
}
