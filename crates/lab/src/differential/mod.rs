//! `make differential`: the same requests to upstream's kube-apiserver over etcd and to
//! `carrack server`, and what differs between the answers.
//!
//! Everything that differs and is not wanted ([`wanted`]) is reported, gathered by
//! mechanism. Cases follow from the tables and a seed ([`generate`]); both servers run on
//! the loopback with nothing else around them, and get each case once, in one order.

pub mod case;
pub mod compare;
pub mod generate;
pub mod mutate;
pub mod normalise;
pub mod objects;
pub mod random;
pub mod report;
pub mod send;
pub mod wanted;

use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use carrack_api::facts;

use crate::bench::servers::Running;
use crate::https::Client;
use case::Case;
use generate::Plan;
use normalise::{Clock, normal};
use objects::Objects;
use report::Report;

/// More differences of one answer than these say nothing new.
const MOST: usize = 10;
/// How long a run may take.
const LIMIT: Duration = Duration::from_secs(3600);

/// Every case of a plan, documents and manifests first.
///
/// # Errors
/// Upstream's modules cannot be found.
pub fn cases(plan: &Plan) -> Result<Vec<Case>> {
    let objects = Objects::load()?;
    let mut cases = Vec::new();
    if plan.only.is_empty() || plan.only.iter().any(|name| name == "documents") {
        cases.extend(generate::documents::cases());
    }
    if plan.only.is_empty() || plan.only.iter().any(|name| name == "manifests") {
        cases.extend(generate::manifests::cases()?);
    }
    cases.extend(generate::batches(plan, &objects).into_iter().flat_map(|batch| batch.cases));
    Ok(cases)
}

/// The names in messages that tell what a row is about, longest first.
fn names(row: &str) -> Vec<(String, &'static str)> {
    let (api_version, resource) = row.split_once(' ').unwrap_or_default();
    let plural = resource.split('/').next().unwrap_or_default();
    let (group, version) = carrack_api::kind::group_version(api_version);
    let kinds = carrack_api::kinds::builtin();
    let Some((kind, _)) = kinds.resource(group, version, plural) else { return Vec::new() };
    // Messages come without their digits.
    let group = compare::template(group);
    let mut names = vec![(compare::template(plural), "RESOURCE"), (compare::template(&kind.kind), "KIND")];
    if !group.is_empty() {
        names.insert(0, (format!("{}.{group}", names[0].0), "RESOURCE"));
        names.insert(1, (format!("{}.{group}", names[2].0), "KIND"));
        let hub = group.split('.').next().unwrap_or_default().to_owned();
        names.push((group, "GROUP"));
        names.push((hub, "GROUP"));
    }
    names
}

/// Sends the cases to both servers and compares what they say. Each difference is a line
/// in `lines`.
///
/// # Errors
/// A server stops answering, or it takes too long.
pub fn run(ours: &Running, theirs: &Running, cases: &[Case], lines: &Path) -> Result<Report> {
    let schema = facts::schema();
    let clock = Clock::now();
    let start = Instant::now();
    let (our_client, their_client) = (Client::new(ours)?, Client::new(theirs)?);
    let mut out = std::io::BufWriter::new(std::fs::File::create(lines)?);
    let mut report = Report::default();
    let mut named = std::collections::HashMap::new();
    std::thread::scope(|scope| {
        let (our_end, from_ours) = sync_channel(256);
        let (their_end, from_theirs) = sync_channel(256);
        let ours = scope.spawn(move || send::send(&our_client, cases, &our_end));
        let theirs = scope.spawn(move || send::send(&their_client, cases, &their_end));
        while let (Ok((at, our_said)), Ok((_, their_said))) = (from_ours.recv(), from_theirs.recv()) {
            let case = &cases[at];
            let steps = case.steps.iter().zip(our_said.iter().zip(&their_said));
            let mut found = Vec::new();
            for (step, answers) in steps {
                let (Some(ours), Some(theirs)) = answers else { continue };
                if !step.compared {
                    continue;
                }
                let (ours, theirs) = (normal(ours, &schema, &clock), normal(theirs, &schema, &clock));
                if compare::broke_down(&ours, &theirs) {
                    report.broke_down.push(case.name());
                    break;
                }
                found = compare::compare(&ours, &theirs);
                let names = named.entry(&case.row).or_insert_with(|| names(&case.row));
                found.iter_mut().for_each(|difference| difference.spread_names(names));
                found.retain(|difference| !wanted::is(case, difference));
                found.truncate(MOST);
                // What follows a difference follows from it.
                if !found.is_empty() {
                    break;
                }
            }
            for difference in &found {
                writeln!(out, "{}", Report::line(case, difference))?;
            }
            report.add(case, &found);
            if at % 1000 == 999 {
                eprintln!("{} cases, {} differ, {:.0?}", at + 1, report.different, start.elapsed());
            }
            if start.elapsed() > LIMIT {
                bail!("gave up after {LIMIT:?} and {at} cases");
            }
        }
        drop((from_ours, from_theirs));
        ours.join().expect("sending does not panic")?;
        theirs.join().expect("sending does not panic")
    })?;
    out.flush()?;
    if report.cases < cases.len() {
        bail!("only {} of {} cases were answered", report.cases, cases.len());
    }
    Ok(report)
}
