//! `make programs`: programs that nobody here wrote, against `carrack server` with
//! simulated nodes: a line for each. ONLY names one of them.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use carrack_lab::programs;

type Run = fn() -> Result<()>;

const ALL: [(&str, Run); 4] = [
    ("controllers", programs::upstream_controllers),
    ("helm", programs::charts),
    ("operator", programs::operator),
    ("kwok", programs::kwok),
];

/// Runs them all, whatever becomes of one; fails when one did, or when none was meant.
fn main() -> ExitCode {
    let only = std::env::var("ONLY").unwrap_or_default();
    let (mut good, mut bad) = (0, 0);
    for (name, run) in ALL.into_iter().filter(|(name, _)| only.is_empty() || only == *name) {
        let begun = Instant::now();
        match run() {
            Ok(()) => {
                good += 1;
                println!("{name}: well, in {:.1?}", begun.elapsed());
            }
            Err(error) => {
                bad += 1;
                println!("{name}: FAILED, after {:.1?}", begun.elapsed());
                eprintln!("{error:?}\n");
            }
        }
    }
    if good + bad == 0 {
        eprintln!("ONLY={only} is none of {}", ALL.map(|(name, _)| name).join(", "));
    }
    if bad == 0 && good > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
