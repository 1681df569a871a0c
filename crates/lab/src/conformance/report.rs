//! From the suite's JSON reports to a page that lists every spec. Pure but for reading.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::specs::{AREAS, area, waits_for};

/// What came of a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// It passed.
    Passed,
    /// It was left out, for a reason.
    Waits(&'static str),
    /// It failed, with the first line of why.
    Failed(String),
}

/// Specs by area and name.
pub type Results = BTreeMap<String, BTreeMap<String, Came>>;

/// Reads a report into the results.
///
/// # Errors
/// It cannot be read.
pub fn read(path: &Path, results: &mut Results) -> Result<()> {
    let text = std::fs::read(path).with_context(|| path.display().to_string())?;
    take(&serde_json::from_slice(&text).with_context(|| path.display().to_string())?, results);
    Ok(())
}

/// Takes a report in: what ran, and of the areas that are listed in full what waits.
pub fn take(report: &Value, results: &mut Results) {
    let suites = report.as_array().into_iter().flatten();
    for spec in suites.flat_map(|suite| suite["SpecReports"].as_array().into_iter().flatten()) {
        if spec["LeafNodeType"] != "It" {
            continue;
        }
        let full = full_name(spec);
        if !full.contains("[Conformance]") {
            continue;
        }
        let Some(area) = area(&full) else { continue };
        let name = bare(&full);
        let came = match spec["State"].as_str().unwrap_or_default() {
            "passed" => Came::Passed,
            "skipped" | "pending" => match waits_for(&full).filter(|_| AREAS.contains(&area)) {
                Some(reason) => Came::Waits(reason),
                None => continue,
            },
            _ => Came::Failed(first_line(&spec["Failure"])),
        };
        results.entry(area.to_owned()).or_default().insert(name, came);
    }
}

fn full_name(spec: &Value) -> String {
    let texts = spec["ContainerHierarchyTexts"].as_array().into_iter().flatten();
    let all: Vec<&str> = texts.chain([&spec["LeafNodeText"]]).filter_map(Value::as_str).collect();
    all.join(" ")
}

/// Without area and labels.
fn bare(name: &str) -> String {
    let mut bare = String::with_capacity(name.len());
    let mut depth = 0;
    for letter in name.chars() {
        match letter {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ if depth == 0 => bare.push(letter),
            _ => {}
        }
    }
    bare.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn first_line(failure: &Value) -> String {
    let message = failure["Message"].as_str().unwrap_or_default();
    let line = message.lines().find(|line| !line.trim().is_empty()).unwrap_or("no message").trim();
    let line: String = line.chars().take(160).collect();
    line.replace('|', "\\|")
}

/// How many passed, wait and failed.
pub fn count(results: &Results) -> (usize, usize, usize) {
    let all = || results.values().flat_map(BTreeMap::values);
    let of = |is: fn(&Came) -> bool| all().filter(|came| is(came)).count();
    (
        of(|came| *came == Came::Passed),
        of(|came| matches!(came, Came::Waits(_))),
        of(|came| matches!(came, Came::Failed(_))),
    )
}

/// The page.
pub fn page(results: &Results) -> String {
    let (listed, other): (Results, Results) =
        results.clone().into_iter().partition(|(area, _)| AREAS.contains(&area.as_str()));
    let (passed, waiting, failed) = count(&listed);
    let total = passed + waiting + failed;
    let (others, _, others_failed) = count(&other);
    let mut page = format!(
        "# Conformance of the API\n\n\
         `make conformance-api` runs upstream's suite (e2e.test of v1.36.3) against `carrack server\n\
         --simulate 3` and writes this page. Of the {total} conformance specs of the areas around the\n\
         API {passed} pass, {waiting} wait for something that is not there yet, and {failed} fail; of\n\
         other areas {others} specs that only talk to the API pass and {others_failed} fail.\n"
    );
    for (area, specs) in listed.iter().chain(&other) {
        let passed = specs.values().filter(|came| **came == Came::Passed).count();
        let _ = write!(page, "\n## {area}: {passed} of {}\n\n| spec | |\n|---|---|\n", specs.len());
        for (name, came) in specs {
            let came = match came {
                Came::Passed => "passed".to_owned(),
                Came::Waits(reason) => format!("waits for {reason}"),
                Came::Failed(why) => format!("**fails**: {why}"),
            };
            let _ = writeln!(page, "| {name} | {came} |");
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(name: &str, state: &str) -> Value {
        json!({"ContainerHierarchyTexts": ["[sig-api-machinery] Watchers"], "LeafNodeText": name,
            "LeafNodeType": "It", "State": state, "Failure": {"Message": "\n timed | out\nmore"}})
    }

    #[test]
    fn the_page_lists_what_ran_and_what_waits() {
        let waits = json!({"ContainerHierarchyTexts": ["[sig-api-machinery] Aggregator"], "LeafNodeType": "It",
            "LeafNodeText": "Should be able to [Conformance]", "State": "skipped"});
        let report = json!([{"SpecReports": [
            spec("one [Conformance]", "passed"), spec("two [Serial] [Conformance]", "failed"),
            spec("three", "passed"), spec("four [Conformance]", "skipped"), waits]}]);
        let mut results = Results::new();
        take(&report, &mut results);
        assert_eq!(count(&results), (1, 1, 1));
        let page = page(&results);
        assert!(page.contains("| Watchers two | **fails**: timed \\| out |"), "{page}");
        assert!(
            page.contains("| Aggregator Should be able to | waits for the aggregation layer |"),
            "{page}"
        );
        assert!(page.contains("## sig-api-machinery: 1 of 3"), "{page}");
    }
}
