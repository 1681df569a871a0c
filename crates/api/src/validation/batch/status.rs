//! What a Job's status may say, and how it may change: finished is finished.

use std::collections::BTreeSet;

use serde_json::Value;

use super::indexes;
use crate::field::{Error, Errors, Path};
use crate::time;
use crate::tree::{flag, get, int, items, same, text};
use crate::validation::rules::{IMMUTABLE, full, invalid_omitted, invalid_struct, non_negative};

/// A Job, as its status tells it.
struct Seen<'a> {
    job: &'a Value,
    status: &'a Value,
}

impl Seen<'_> {
    fn is(&self, condition: &str, status: &str) -> bool {
        let mut all = items(self.status, "conditions").iter();
        all.any(|one| text(one, "type") == condition && text(one, "status") == status)
    }

    fn on(&self, condition: &str) -> bool {
        self.is(condition, "True")
    }

    fn finished(&self) -> bool {
        self.on("Complete") || self.on("Failed")
    }

    fn count(&self, field: &str) -> i64 {
        int(self.status, field).unwrap_or(0)
    }
}

/// Rules of a status that replaces another.
pub fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let new = Seen { job: new, status: &new["status"] };
    let old = Seen { job: old, status: &old["status"] };
    let path = Path::ROOT.child("status");
    counts(&new, &path, errors);
    conditions_and_times(&new, &old, &path, errors);
    finished(&new, &old, &path, errors);
    indexes_of(&new, &old, &path, errors);
    success(&new, &old, &path, errors);
    changes(&new, &old, &path, errors);
}

fn counts(new: &Seen<'_>, path: &Path<'_>, errors: &mut Errors) {
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        non_negative(errors, &path.child(field), new.count(field));
    }
    let Some(uncounted) = get(new.status, "uncountedTerminatedPods") else { return };
    let path = path.child("uncountedTerminatedPods");
    let mut seen = BTreeSet::new();
    for list in ["succeeded", "failed"] {
        let path = path.child(list);
        for (at, uid) in items(uncounted, list).iter().enumerate() {
            if full(errors) {
                break;
            }
            let uid = uid.as_str().unwrap_or_default();
            if uid.is_empty() {
                errors.push(Error::invalid(&path.index(at), uid, "must not be empty"));
            } else if !seen.insert(uid) {
                errors.push(Error::duplicate(&path.index(at), uid));
            }
        }
    }
}

fn conditions_and_times(new: &Seen<'_>, old: &Seen<'_>, path: &Path<'_>, errors: &mut Errors) {
    let conditions = path.child("conditions");
    let changed = |condition: &str| new.on(condition) != old.on(condition);
    let field_changed = |field: &str| !same(new.status.get(field), old.status.get(field));
    let complete = new.on("Complete");
    let times = changed("Complete") || field_changed("completionTime");
    let completed = get(new.status, "completionTime");
    let completion = path.child("completionTime");
    if (changed("Complete") || changed("Failed")) && complete && new.on("Failed") {
        errors.push(invalid_omitted(&conditions, "cannot set Complete=True and Failed=true conditions"));
    }
    if (changed("Complete") || changed("FailureTarget")) && complete && new.on("FailureTarget") {
        errors
            .push(invalid_omitted(&conditions, "cannot set Complete=True and FailureTarget=true conditions"));
    }
    match completed {
        Some(at) if times && !complete => {
            let detail = "cannot set completionTime when there is no Complete=True condition";
            errors.push(Error::invalid(&completion, at.clone(), detail));
        }
        None if times && complete => {
            errors.push(Error::required(&completion, "completionTime is required for Complete jobs"));
        }
        _ => {}
    }
    if (field_changed("startTime") || field_changed("completionTime"))
        && let (Some(end), Some(start)) = (completed, get(new.status, "startTime"))
        && unix(end) < unix(start)
    {
        errors.push(Error::invalid(&completion, end.clone(), "must be equal to or after `startTime`"));
    }
    if (changed("Failed") || field_changed("failedIndexes")) && new.on("Failed") && !new.on("FailureTarget") {
        let detail = "cannot set Failed=True condition without the FailureTarget=true condition";
        errors.push(invalid_omitted(&conditions, detail));
    }
    if (changed("Complete") || changed("SuccessCriteriaMet")) && complete && !new.on("SuccessCriteriaMet") {
        let detail = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        errors.push(invalid_omitted(&conditions, detail));
    }
}

fn unix(time: &Value) -> Option<(i64, u32)> {
    time.as_str().and_then(time::to_unix)
}

fn finished(new: &Seen<'_>, old: &Seen<'_>, path: &Path<'_>, errors: &mut Errors) {
    if !new.finished() {
        return;
    }
    let now = !old.finished();
    let changed = |field: &str| now || !same(new.status.get(field), old.status.get(field));
    if changed("active") && new.count("active") > 0 {
        let detail = "active>0 is invalid for finished job";
        errors.push(Error::invalid(&path.child("active"), new.count("active"), detail));
    }
    let spec = &new.job["spec"];
    let nothing_to_do = flag(spec, "suspend") && int(spec, "completions") == Some(0);
    if changed("startTime") && !nothing_to_do && get(new.status, "startTime").is_none() {
        errors.push(Error::required(&path.child("startTime"), "startTime is required for finished job"));
    }
    let uncounted = &new.status["uncountedTerminatedPods"];
    let some = !items(uncounted, "failed").is_empty() || !items(uncounted, "succeeded").is_empty();
    if changed("uncountedTerminatedPods") && some {
        let shown = serde_json::json!({
            "Succeeded": uncounted.get("succeeded").cloned().unwrap_or_default(),
            "Failed": uncounted.get("failed").cloned().unwrap_or_default(),
        });
        let path = path.child("uncountedTerminatedPods");
        // Go's order of fields.
        let json = format!("{{\"Succeeded\":{},\"Failed\":{}}}", shown["Succeeded"], shown["Failed"]);
        errors.push(crate::validation::rules::invalid_json(&path, &json, "must be empty for finished job"));
    }
}

fn indexes_of(new: &Seen<'_>, old: &Seen<'_>, path: &Path<'_>, errors: &mut Errors) {
    let spec = &new.job["spec"];
    let completions = int(spec, "completions");
    let per_index = get(spec, "backoffLimitPerIndex").is_some();
    let changed = |field: &str| new.status.get(field) != old.status.get(field);
    let completed = text(new.status, "completedIndexes");
    let failed = get(new.status, "failedIndexes").and_then(Value::as_str);
    let mut parse = |field: &str, indexes: &str| {
        if let Some(Err(error)) = completions.map(|all| indexes::total(indexes, all)) {
            let detail = format!("error parsing {field}: {error}");
            errors.push(Error::invalid(&path.child(field), indexes, &detail));
        }
    };
    if changed("completedIndexes") {
        parse("completedIndexes", completed);
    }
    if let Some(failed) = failed.filter(|_| changed("failedIndexes") && per_index) {
        parse("failedIndexes", failed);
    }
    if changed("completedIndexes") && !completed.is_empty() && text(spec, "completionMode") != "Indexed" {
        let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.push(Error::invalid(&path.child("completedIndexes"), completed, detail));
    }
    let Some(failed) = failed else { return };
    let failed_path = path.child("failedIndexes");
    if changed("failedIndexes") && !per_index {
        let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.push(Error::invalid(&failed_path, failed, detail));
    }
    if (changed("failedIndexes") || changed("completedIndexes"))
        && let Some(detail) = completions.and_then(|all| indexes::overlap(completed, failed, all))
    {
        errors.push(Error::invalid(&failed_path, failed, &detail));
    }
}

fn success(new: &Seen<'_>, old: &Seen<'_>, path: &Path<'_>, errors: &mut Errors) {
    let changed = |field: &str| !same(new.status.get(field), old.status.get(field));
    let terminating = new.count("terminating");
    if terminating > 0 && new.finished() && (!old.finished() || changed("terminating")) {
        let detail = "terminating>0 is invalid for finished job";
        errors.push(Error::invalid(&path.child("terminating"), terminating, detail));
    }
    if (changed("ready") || changed("active")) && new.count("ready") > new.count("active") {
        let detail = "cannot set more ready pods than active";
        errors.push(Error::invalid(&path.child("ready"), new.count("ready"), detail));
    }
    let conditions = path.child("conditions");
    let met = new.on("SuccessCriteriaMet");
    if met && new.on("Failed") {
        errors.push(invalid_omitted(
            &conditions,
            "cannot set SuccessCriteriaMet=True and Failed=true conditions",
        ));
    }
    if met && new.on("FailureTarget") {
        let detail = "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions";
        errors.push(invalid_omitted(&conditions, detail));
    }
    if get(&new.job["spec"], "successPolicy").is_some() && !met && new.on("Complete") {
        let detail = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        errors.push(invalid_omitted(&conditions, detail));
    }
}

fn changes(new: &Seen<'_>, old: &Seen<'_>, path: &Path<'_>, errors: &mut Errors) {
    let conditions = path.child("conditions");
    for condition in ["Failed", "Complete", "FailureTarget"] {
        if old.on(condition) && !new.on(condition) {
            let detail = format!("cannot disable the terminal {condition}=True condition");
            errors.push(invalid_omitted(&conditions, &detail));
        }
    }
    let spec = &new.job["spec"];
    let elastic =
        text(spec, "completionMode") == "Indexed" && spec.get("completions") == spec.get("parallelism");
    for (field, judged) in [("failed", true), ("succeeded", !elastic)] {
        if judged && new.count(field) < old.count(field) {
            let detail = format!("cannot decrease the {field} counter");
            errors.push(Error::invalid(&path.child(field), new.count(field), &detail));
        }
    }
    let (before, now) = (get(old.status, "completionTime"), get(new.status, "completionTime"));
    if let (Some(before), Some(now)) = (before, now)
        && before != now
    {
        errors.push(Error::invalid(&path.child("completionTime"), now.clone(), IMMUTABLE));
    }
    let (before, now) = (get(old.status, "startTime"), get(new.status, "startTime"));
    let resuming = old.on("Suspended") && new.is("Suspended", "False");
    if before.is_some() && before != now && !resuming && !flag(spec, "suspend") {
        let detail = "field is immutable for unsuspended job once set";
        errors.push(invalid_struct(&path.child("startTime"), now.unwrap_or(&Value::Null), detail));
    }
    let met = |seen: &Seen<'_>| seen.on("SuccessCriteriaMet");
    if met(old) && !met(new) {
        errors.push(invalid_omitted(&conditions, "cannot disable the SuccessCriteriaMet=True condition"));
    }
    if old.on("Complete") && !met(old) && met(new) {
        let detail = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        errors.push(invalid_omitted(&conditions, detail));
    }
}
