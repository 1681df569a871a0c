//! `make test-vm`: power cuts of a virtual machine. CUTS says how many (20), SEED repeats
//! the choices of a run, ONLY names one part: load, first, clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use carrack_lab::vm;

fn number(name: &str) -> Result<Option<u64>> {
    let parse = |text: String| text.parse().with_context(|| format!("{name}={text}"));
    std::env::var(name).ok().map(parse).transpose()
}

#[tokio::main]
async fn main() -> Result<()> {
    let only = std::env::var("ONLY").unwrap_or_default();
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let first = number("SEED")?.unwrap_or(clock.as_nanos() as u64) | 1;
    let cuts = number("CUTS")?.unwrap_or(20);
    println!("SEED={first}");
    let work = tempfile::Builder::new().prefix("vm-").tempdir_in(carrack_lab::paths::cache()?)?;
    for part in ["load", "first", "clock"].into_iter().filter(|part| only.is_empty() || only == *part) {
        let (begun, mut seed, dir) = (Instant::now(), first, work.path().join(part));
        let done = match part {
            "load" => vm::cuts_under_load(&dir, cuts as usize, &mut seed).await,
            "first" => vm::cuts_of_first_starts(&dir, cuts, &mut seed).await,
            _ => tokio::task::block_in_place(|| vm::moved_clock(&dir)),
        };
        if let Err(error) = done {
            let kept = work.keep();
            bail!("{part}: {error:#}\nSEED={first}; consoles and logs are in {}", kept.display());
        }
        println!("{part}: well, in {:.0?}", begun.elapsed());
    }
    Ok(())
}
