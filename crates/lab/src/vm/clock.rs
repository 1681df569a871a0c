//! A machine whose clock is wrong: it starts years ahead, years back, and rightly again.
//! kubectl in the machine, which sees the same clock, says whether certificates hold.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::guest::{Boot, Computer};

/// What the clock says at each start of two machines, the second of which has never known
/// the time; `None`: the time.
const CLOCKS: &[&[Option<&str>]] = &[
    &[None, Some("2031-05-01T00:00:00"), None, Some("2055-05-01T00:00:00"), None],
    &[Some("2001-01-01T00:00:00"), None, Some("2001-01-01T00:00:00")],
];

/// Starts machines with wrong clocks, one start after the other on the same disk; each
/// must serve, and take writes.
///
/// # Errors
/// What is wrong.
pub fn moved_clock(dir: &Path) -> Result<()> {
    let mut computer = Computer::new(dir, true)?;
    let empty = computer.disk.medium();
    for clocks in CLOCKS {
        computer.disk.replace(&empty);
        for clock in *clocks {
            let name = clock.unwrap_or("now");
            let mut guest = computer.boot(Boot { check: true, kubectl: true, clock: *clock })?;
            let said = guest.wait_until_said("LAB kubectl done").with_context(|| name.to_owned())?;
            let line =
                |start: &str| said.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_default();
            let (ready, created) = (line("LAB kubectl readyz: "), line("LAB kubectl create: "));
            println!("clock {name}: readyz {ready}; {created}");
            ensure!(ready.trim() == "ok" && created.contains("created"), "clock {name}: {said}");
            drop(guest);
            computer.disk.settle(&mut 1);
        }
    }
    Ok(())
}
