//! Coverage, and differences gathered into clusters, the largest first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use carrack_api::kinds;
use serde_json::{Value, json};

use super::case::Case;
use super::compare::Difference;

/// Kinds, paths and examples shown of each cluster.
const SHOWN: usize = 6;
/// Bytes shown of a value.
const LENGTH: usize = 400;

/// All that was found.
#[derive(Default)]
pub struct Report {
    clusters: BTreeMap<(String, String), Cluster>,
    covered: BTreeMap<(String, String), usize>,
    /// Cases that were compared.
    pub cases: usize,
    /// Cases with a difference that nobody wants.
    pub different: usize,
    /// Cases whose last request upstream broke down over.
    pub broke_down: Vec<String>,
}

#[derive(Default)]
struct Cluster {
    count: usize,
    rows: BTreeSet<String>,
    paths: BTreeSet<String>,
    example: Option<(String, Difference)>,
}

impl Report {
    /// Takes in a case and what of it differs and is not wanted.
    pub fn add(&mut self, case: &Case, differences: &[Difference]) {
        self.cases += 1;
        if !case.row.is_empty() {
            *self.covered.entry((case.row.clone(), case.verb.clone())).or_default() += 1;
        }
        self.different += usize::from(!differences.is_empty());
        for difference in differences {
            let key = (difference.class.to_owned(), difference.about.clone());
            let cluster = self.clusters.entry(key).or_default();
            cluster.count += 1;
            cluster.rows.insert(case.row.clone());
            cluster.paths.insert(difference.path.clone());
            cluster.example.get_or_insert_with(|| (case.name(), difference.clone()));
        }
    }

    /// A line of the report for one difference.
    pub fn line(case: &Case, difference: &Difference) -> Value {
        json!({
            "row": case.row, "verb": case.verb, "case": case.title, "class": difference.class,
            "about": difference.about, "path": difference.path, "ours": difference.ours, "theirs": difference.theirs,
            "requests": case.steps.iter().map(|step| format!("{} {}", step.request.method, step.request.path)).collect::<Vec<_>>(),
            "bodies": case.steps.iter().map(|step| short(&String::from_utf8_lossy(&step.request.body))).collect::<Vec<_>>(),
        })
    }

    /// The clusters as text, by the number of kinds and cases they concern.
    pub fn clusters(&self) -> String {
        let mut clusters: Vec<_> = self.clusters.iter().collect();
        clusters.sort_by_key(|(_, cluster)| std::cmp::Reverse((cluster.count, cluster.rows.len())));
        let mut text =
            format!("{} cases, {} differ, {} clusters\n\n", self.cases, self.different, clusters.len());
        if let Some(first) = self.broke_down.first() {
            let count = self.broke_down.len();
            let _ = writeln!(text, "upstream broke down over {count} that Carrack refuses, e.g. {first}\n");
        }
        for ((class, about), cluster) in clusters {
            let rows: Vec<&str> = cluster.rows.iter().map(String::as_str).take(SHOWN).collect();
            let paths: Vec<&str> = cluster
                .paths
                .iter()
                .map(String::as_str)
                .filter(|path| !path.is_empty())
                .take(SHOWN)
                .collect();
            let more = cluster.rows.len().saturating_sub(SHOWN);
            let _ = writeln!(text, "{:5} × [{class}] {about}", cluster.count);
            let _ = writeln!(
                text,
                "        {}{}",
                rows.join(", "),
                if more > 0 { format!(" and {more} more") } else { String::new() }
            );
            if !paths.is_empty() {
                let _ = writeln!(text, "        at {} ({})", paths.join(", "), cluster.paths.len());
            }
            if let Some((name, difference)) = &cluster.example {
                let _ = writeln!(text, "        e.g. {name}");
                let _ = writeln!(text, "          ours   {}", short(&difference.ours));
                let _ = writeln!(text, "          theirs {}", short(&difference.theirs));
            }
        }
        text
    }

    /// How many cases there were for every served resource and verb, and what has none.
    pub fn coverage(&self, only: &[String]) -> String {
        let mut text = String::new();
        let mut missing = Vec::new();
        for kind in kinds::builtin().iter() {
            if !only.is_empty() && !only.iter().any(|name| **name == *kind.plural) {
                continue;
            }
            for version in 0..kind.versions.len() {
                let row = format!("{} {}", kind.api_version(version), kind.plural);
                let subs = kind.subresources.iter().map(|sub| (format!("{row}/{}", sub.name), &sub.verbs));
                for (row, verbs) in [(row.clone(), &kind.verbs)].into_iter().chain(subs) {
                    let _ = write!(text, "{row:70}");
                    for verb in verbs {
                        let count = self.covered.get(&(row.clone(), verb.to_string())).copied().unwrap_or(0);
                        let _ = write!(text, " {verb} {count}");
                        if count == 0 {
                            missing.push(format!("{row} {verb}"));
                        }
                    }
                    text.push('\n');
                }
            }
        }
        let _ = writeln!(
            text,
            "without a case: {}",
            if missing.is_empty() { "none".into() } else { missing.join(", ") }
        );
        text
    }
}

fn short(text: &str) -> String {
    let line = text.replace('\n', "⏎");
    match line.char_indices().nth(LENGTH) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}
