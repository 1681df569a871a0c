//! Power cuts in the middle of a load.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::guest::{Boot, Computer};
use super::load::Load;
use crate::writes::next;

/// The disk's requests of writing and flushing after which the power goes at the latest:
/// enough for the database to write its log back now and then.
const WITHIN: u64 = 3000;
/// Writes that are unflushed at every other cut: no commit has as many, so that this is
/// while the file system or the database writes a lot back.
const CROWD: usize = 8;
/// When the power goes if the disk is left alone.
const LATEST: Duration = Duration::from_secs(60);

/// Cuts the power `cuts` times during a load, every third time once more while the machine
/// boots; after each, nothing that was acknowledged may be lost.
///
/// # Errors
/// What is wrong.
pub async fn cuts_under_load(dir: &Path, cuts: usize, seed: &mut u64) -> Result<()> {
    let mut computer = Computer::new(dir, false)?;
    let load = Load::default();
    for round in 0..=cuts {
        let check = round > 0 && next(seed).is_multiple_of(2);
        let mut guest = computer.boot(Boot { check, ..Boot::default() })?;
        let context = || format!("after {round} cuts");
        let client = guest.ready().await.with_context(context)?;
        if round > 0 {
            println!("  {}", load.verify(&client).await.with_context(context)?);
        }
        if round == cuts {
            break;
        }
        let running = load.start(&client, round).await.with_context(context)?;
        computer.disk.cut_after(next(seed) % WITHIN, if round % 2 == 1 { CROWD } else { 0 });
        let cut = tokio::task::block_in_place(|| computer.cut(guest, LATEST, seed))?;
        drop(running);
        println!("cut {}: {cut}", round + 1);
        if round % 3 == 2 {
            let guest = computer.boot(Boot { check: true, ..Boot::default() })?;
            computer.disk.cut_after(next(seed) % 60, 0);
            let cut = tokio::task::block_in_place(|| computer.cut(guest, LATEST, seed))?;
            println!("  and while it boots: {cut}");
        }
    }
    let mut guest = computer.boot(Boot { check: true, ..Boot::default() })?;
    guest.ready().await?;
    guest.wait_until_said("everything is well")?;
    Ok(())
}
