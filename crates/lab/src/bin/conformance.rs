//! `make conformance-api`: runs upstream's conformance specs that need only an API and
//! nodes that seem to be there, and writes `docs/conformance.md`. ONLY names groups, separated
//! by commas; REPORTS names reports to make the page of, in place of a run.

use anyhow::{Result, ensure};
use carrack_lab::conformance::report::{self, Results};
use carrack_lab::conformance::{drive, specs};
use carrack_lab::paths;

fn main() -> Result<()> {
    let out = paths::target().join("conformance");
    let only = std::env::var("ONLY").unwrap_or_default();
    let wanted = |name: &str| only.is_empty() || only.split(',').any(|group| group == name);
    let mut results = Results::new();
    // Of runs that were made apart, such as on several machines.
    let made = std::env::var("REPORTS").unwrap_or_default();
    for path in made.split(',').filter(|path| !path.is_empty()) {
        report::read(path.as_ref(), &mut results)?;
    }
    std::thread::scope(|scope| -> Result<()> {
        let mut running = Vec::new();
        for group in specs::GROUPS.iter().filter(|group| made.is_empty() && wanted(group.name)) {
            let out = &out;
            println!("running {}: {}", group.name, out.join(group.name).join("log").display());
            running.push(scope.spawn(move || drive(group, out)));
        }
        for thread in running {
            let report = thread.join().map_err(|_| anyhow::anyhow!("a group's thread panicked"))??;
            report::read(&report, &mut results)?;
        }
        Ok(())
    })?;
    let (passed, waiting, failed) = report::count(&results);
    if only.is_empty() {
        let page = paths::repository().join("docs/conformance.md");
        std::fs::write(&page, report::page(&results))?;
        println!("{}", page.display());
    } else {
        println!("{}", report::page(&results));
    }
    println!("{passed} passed, {waiting} wait, {failed} failed");
    ensure!(failed == 0, "{failed} specs failed");
    Ok(())
}
