//! Rules of Jobs and CronJobs.

mod indexes;
mod policies;
mod status;
mod update;
mod zones;

use serde_json::Value;

use super::names;
use super::pods;
use super::rules::{invalid_each, invalid_struct, label_selector, non_negative, not_supported};
use super::shape::{Row, Rule, check};
use crate::field::{Error, Errors, Path};
use crate::selector::Labels;
use crate::tree::{flag, get, int, text};

pub(super) use status::validate as job_status;
pub(super) use update::validate as job_update;

const UID_LABELS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];
const NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];

const PARALLELISM_MAX: i64 = 100_000;
const MANY_COMPLETIONS: i64 = 100_000;
const WITH_MANY: i64 = 10_000;

/// Rules of a new Job.
pub fn job(job: &Value, errors: &mut Errors) {
    generated_selector(job, true, errors);
    spec_and_selector(&job["spec"], errors);
    host_names(job, errors);
}

/// The rules of a new Job, held to one that replaces another.
pub fn job_again(new: &Value, old: &Value, errors: &mut Errors) {
    let labels = &old["spec"]["template"]["metadata"]["labels"];
    let prefixed = get(labels, UID_LABELS[1]).is_some() && get(labels, NAME_LABELS[1]).is_some();
    generated_selector(new, prefixed, errors);
    spec_and_selector(&new["spec"], errors);
    host_names(new, errors);
}

/// A selector that the server made must still select the Job's own pods.
fn generated_selector(job: &Value, prefixed: bool, errors: &mut Errors) {
    let spec = &job["spec"];
    let Some(selector) = get(spec, "selector").filter(|_| !flag(spec, "manualSelector")) else { return };
    let (uid, name) = (text(&job["metadata"], "uid"), text(&job["metadata"], "name"));
    if uid.is_empty() {
        errors.push(Error::required(&Path::ROOT.child("metadata").child("uid"), ""));
    }
    let path = Path::ROOT.child("spec");
    let path = path.child("template");
    let path = path.child("metadata");
    let labels = &spec["template"]["metadata"]["labels"];
    let expected = [
        (UID_LABELS[0], uid, true),
        (NAME_LABELS[0], name, true),
        (UID_LABELS[1], uid, prefixed),
        (NAME_LABELS[1], name, prefixed),
    ];
    for (label, wanted, _) in expected.iter().filter(|(_, _, asked)| *asked) {
        has_label(labels, label, wanted, &path, errors);
    }
    let labels = expected.iter().filter(|(_, _, asked)| *asked);
    let labels: Value = labels
        .map(|(label, value, _)| ((*label).to_owned(), Value::from(*value)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    if Labels::from_value(selector).is_ok_and(|parsed| !parsed.matches_value(&labels)) {
        let path = Path::ROOT.child("spec");
        errors.push(invalid_struct(&path.child("selector"), selector, "`selector` not auto-generated"));
    }
}

fn has_label(labels: &Value, label: &str, wanted: &str, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("labels");
    match get(labels, label).and_then(Value::as_str) {
        None => errors.push(Error::required(&path.key(label), &format!("must be '{wanted}'"))),
        Some(value) if value != wanted => {
            errors.push(Error::invalid(&path.key(label), labels.clone(), &format!("must be '{wanted}'")));
        }
        Some(_) => {}
    }
}

/// Pods of an indexed Job have its name and their index for a host name.
fn host_names(job: &Value, errors: &mut Errors) {
    let spec = &job["spec"];
    let completions = int(spec, "completions").filter(|count| *count > 0);
    let Some(completions) = completions.filter(|_| text(spec, "completionMode") == "Indexed") else { return };
    let name = text(&job["metadata"], "name");
    let longest = format!("{name}-{}", completions - 1);
    if !names::dns_label(&longest).is_empty() {
        let detail = format!("will not able to create pod with invalid DNS label: {longest}");
        errors.push(Error::invalid(&Path::ROOT.child("metadata").child("name"), name, &detail));
    }
}

fn spec_and_selector(spec: &Value, errors: &mut Errors) {
    let path = &Path::ROOT.child("spec");
    self::spec(spec, path, errors);
    let selector = get(spec, "selector");
    match selector {
        None => errors.push(Error::required(&path.child("selector"), "")),
        Some(_) => label_selector(errors, selector, &path.child("selector")),
    }
    let labels = &spec["template"]["metadata"]["labels"];
    let matches = match selector.map(Labels::from_value) {
        None => false,
        Some(Ok(selector)) => selector.matches_value(labels),
        Some(Err(_)) => true,
    };
    if !matches {
        let path = path.child("template");
        let path = path.child("metadata");
        let detail = "`selector` does not match template `labels`";
        errors.push(Error::invalid(&path.child("labels"), labels.clone(), detail));
    }
}

/// What a Job's spec and that in a CronJob's template have in common.
fn spec(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    const COUNTS: &[Row] = &[
        ("parallelism", Rule::NonNegative),
        ("completions", Rule::NonNegative),
        ("activeDeadlineSeconds", Rule::NonNegative),
        ("backoffLimit", Rule::NonNegative),
        ("ttlSecondsAfterFinished", Rule::NonNegative),
        ("backoffLimitPerIndex", Rule::NonNegative),
        ("maxFailedIndexes", Rule::NonNegative),
    ];
    check(spec, COUNTS, path, errors);
    let has = |field: &str| get(spec, field).is_some();
    if has("maxFailedIndexes") && !has("backoffLimitPerIndex") {
        errors
            .push(Error::required(&path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"));
    }
    if let Some(manager) = get(spec, "managedBy").and_then(Value::as_str) {
        names::domain_prefixed_path(manager, &path.child("managedBy"), errors);
        if manager.len() > 63 {
            errors.push(Error::too_long(&path.child("managedBy"), 63));
        }
    }
    completion_mode(spec, path, errors);
    policies::failure(spec, &path.child("podFailurePolicy"), errors);
    policies::success(spec, &path.child("successPolicy"), errors);
    if let Some(policy) = get(spec, "podReplacementPolicy").and_then(Value::as_str) {
        let all: &[&str] =
            if has("podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
        if !all.contains(&policy) {
            errors.push(not_supported(&path.child("podReplacementPolicy"), policy, all));
        }
    }
    let template = path.child("template");
    pods::template(&spec["template"], &template, errors);
    let restart = text(&spec["template"]["spec"], "restartPolicy");
    let template = template.child("spec");
    let restart_path = template.child("restartPolicy");
    match restart {
        "Always" | "" => {
            errors.push(Error::required(&restart_path, "valid values: \"OnFailure\", \"Never\""));
        }
        "OnFailure" if has("podFailurePolicy") => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.push(Error::invalid(&restart_path, restart, detail));
        }
        "OnFailure" | "Never" => {}
        other => errors.push(not_supported(&restart_path, other, &["OnFailure", "Never"])),
    }
}

fn completion_mode(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let count = |field: &str| int(spec, field);
    let mode = get(spec, "completionMode").and_then(Value::as_str);
    let too_many = |errors: &mut Errors, field: &str, max: i64, when: &str| {
        if let Some(value) = count(field).filter(|value| *value > max) {
            let detail = format!("must be less than or equal to {max}{when}");
            errors.push(Error::invalid(&path.child(field), value, &detail));
        }
    };
    match mode {
        Some("Indexed") => {
            if count("completions").is_none() {
                let detail = "when completion mode is Indexed";
                errors.push(Error::required(&path.child("completions"), detail));
            }
            too_many(errors, "parallelism", PARALLELISM_MAX, " when completion mode is Indexed");
            if let (Some(failed), Some(all)) = (count("maxFailedIndexes"), count("completions"))
                && failed > all
            {
                let detail = "must be less than or equal to completions";
                errors.push(Error::invalid(&path.child("maxFailedIndexes"), failed, detail));
            }
            too_many(errors, "maxFailedIndexes", PARALLELISM_MAX, "");
            let many = count("completions").is_some_and(|all| all > MANY_COMPLETIONS);
            if many && count("backoffLimitPerIndex").is_some() {
                if count("maxFailedIndexes").is_none() {
                    let detail = format!("must be specified when completions is above {MANY_COMPLETIONS}");
                    errors.push(Error::required(&path.child("maxFailedIndexes"), &detail));
                }
                let when = format!(
                    " when completions are above {MANY_COMPLETIONS} and used with backoff limit per index"
                );
                too_many(errors, "parallelism", WITH_MANY, &when);
                too_many(errors, "maxFailedIndexes", WITH_MANY, &when);
            }
        }
        Some(other) if other != "NonIndexed" => {
            errors.push(not_supported(&path.child("completionMode"), other, &["NonIndexed", "Indexed"]));
        }
        _ => {
            for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if let Some(value) = count(field) {
                    errors.push(Error::invalid(
                        &path.child(field),
                        value,
                        "requires indexed completion mode",
                    ));
                }
            }
        }
    }
}

/// Rules of a CronJob.
pub fn cron_job(object: &Value, old: Option<&Value>, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], &Path::ROOT.child("spec"));
    let before = old.map(|old| &old["spec"]);
    let schedule_path = path.child("schedule");
    match text(spec, "schedule") {
        "" => errors.push(Error::required(&schedule_path, "")),
        schedule => {
            let may = before.is_some_and(|before| text(before, "schedule").contains("TZ"));
            if let Err(detail) = crate::cron::parse(schedule) {
                errors.push(Error::invalid(&schedule_path, schedule, &detail));
            }
            if schedule.contains("TZ") && may && get(spec, "timeZone").is_some() {
                let detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
                errors.push(Error::invalid(&schedule_path, schedule, detail));
            } else if schedule.contains("TZ") && !may {
                let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
                errors.push(Error::invalid(&schedule_path, schedule, detail));
            }
        }
    }
    non_negative(
        errors,
        &path.child("startingDeadlineSeconds"),
        int(spec, "startingDeadlineSeconds").unwrap_or(0),
    );
    if before.is_none_or(|before| before.get("timeZone") != spec.get("timeZone")) {
        zones::check(get(spec, "timeZone"), &path.child("timeZone"), errors);
    }
    const REST: &[Row] = &[
        ("concurrencyPolicy", Rule::RequiredOneOf(&["Allow", "Forbid", "Replace"])),
        ("jobTemplate", Rule::By(|at, errors| job_template(at.value, at.path, errors))),
        ("successfulJobsHistoryLimit", Rule::NonNegative),
        ("failedJobsHistoryLimit", Rule::NonNegative),
    ];
    check(spec, REST, path, errors);
    let name = text(&object["metadata"], "name");
    if old.is_none() && name.len() > 52 {
        let detail = vec!["must be no more than 52 characters".to_owned()];
        invalid_each(errors, &Path::ROOT.child("metadata").child("name"), name, detail);
    }
}

fn job_template(template: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (spec, path) = (&template["spec"], path.child("spec"));
    self::spec(spec, &path, errors);
    if let Some(selector) = get(spec, "selector") {
        let detail = "`selector` will be auto-generated";
        errors.push(invalid_struct(&path.child("selector"), selector, detail));
    }
    if flag(spec, "manualSelector") {
        let mut error = not_supported(&path.child("manualSelector"), "", &["nil", "false"]);
        error.message = error.message.replacen("\"\"", "true", 1);
        errors.push(error);
    }
}
