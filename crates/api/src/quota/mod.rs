//! Quotas: how objects count, what they use, and whether more fits. Pure; shared by
//! admission, which reserves, and by whoever counts again.

mod amounts;
mod evaluate;
pub mod pods;
mod scope;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde_json::Value;

pub use amounts::Amounts;
pub use evaluate::{Evaluator, evaluator, overdue_at, resources};
pub use scope::{Scope, scopes, terminating};

/// Adds up what the objects of one resource use of what a quota limits. `names` are the
/// quota's; a name that the resource counts under is there, be it as zero.
pub fn total<'a>(
    evaluator: &Evaluator,
    names: impl Iterator<Item = &'a str>,
    scopes: &[Scope],
    objects: impl Iterator<Item = Value>,
    now: Timestamp,
) -> Amounts {
    let mut sum = Amounts::default();
    names.filter(|name| evaluator.counts(name)).for_each(|name| sum.count(name, 0));
    let counted: Vec<String> = sum.names().map(str::to_owned).collect();
    for object in objects {
        if scopes.iter().all(|scope| evaluator.in_scope(scope, &object)) {
            sum.add(&evaluator.usage(&object, now));
        }
    }
    sum.only(counted.iter().map(String::as_str))
}

/// One write that may use more of a quota.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// How its objects count.
    pub evaluator: &'a Evaluator,
    /// The object as it will be.
    pub new: &'a Value,
    /// The object as it is; absent on creation.
    pub old: Option<&'a Value>,
    /// When.
    pub now: Timestamp,
}

/// What a write takes of one quota.
///
/// # Errors
/// The sentence that says why it does not fit. (In upstream's order: what the object
/// must say, a status that is there, an amount that fits.)
pub fn charge(quota: &Value, request: &Request<'_>) -> Result<Amounts, String> {
    let Request { evaluator, new, old, now } = *request;
    let name = quota["metadata"]["name"].as_str().unwrap_or_default();
    let (hard, used) = (Amounts::read(&quota["status"]["hard"]), Amounts::read(&quota["status"]["used"]));
    let limited: Vec<&str> = hard.names().filter(|name| evaluator.counts(name)).collect();
    let scopes = scopes(quota);
    let covers = |object: &Value| scopes.iter().all(|scope| evaluator.in_scope(scope, object));
    if limited.is_empty() || !covers(new) {
        return Ok(Amounts::default());
    }
    evaluator
        .demand(limited.iter().copied(), new)
        .map_err(|missing| format!("failed quota: {name}: {missing}"))?;
    if limited.iter().any(|name| used.get(name).is_none()) {
        return Err(format!("status unknown for quota: {name}, resources: {}", limited.join(",")));
    }
    let usage = evaluator.usage(new, now);
    let negative = usage.negative();
    if !negative.is_empty() {
        return Err(format!("quota usage is negative for resource(s): {}", negative.join(",")));
    }
    let more = match old.filter(|old| covers(old)) {
        Some(old) => usage.less(&evaluator.usage(old, now)),
        None => usage,
    };
    let more = more.without_zeros().only(hard.names());
    let mut sum = used.only(more.names());
    sum.add(&more);
    let beyond = sum.beyond(&hard);
    if !beyond.is_empty() {
        let part = |amounts: &Amounts| amounts.only(beyond.iter().copied()).show();
        return Err(format!(
            "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
            part(&more),
            part(&used),
            part(&hard)
        ));
    }
    Ok(more)
}
