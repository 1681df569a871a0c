//! `make programs`: programs that nobody here wrote, against `carrack server` with
//! simulated nodes. ONLY names one of them.

use anyhow::{Context, Result};
use carrack_lab::programs;

fn main() -> Result<()> {
    let only = std::env::var("ONLY").unwrap_or_default();
    type Run = fn() -> Result<()>;
    let all: [(&str, Run); 2] = [("controllers", programs::upstream_controllers), ("helm", programs::charts)];
    for (name, run) in all.into_iter().filter(|(name, _)| only.is_empty() || only == *name) {
        let begun = std::time::Instant::now();
        run().with_context(|| name.to_owned())?;
        println!("{name}: well, in {:.1?}", begun.elapsed());
    }
    Ok(())
}
