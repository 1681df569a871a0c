//! How many pods of a disruption budget are healthy, how many must be, and how many may
//! go. (After upstream's `pkg/controller/disruption`.)

use std::collections::{BTreeMap, BTreeSet};

use carrack_api::{Value, budget};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

/// How long an evicted pod may still be seen without being deleted.
const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_mins(2);

/// A pod that the budget selects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether it is ready.
    pub ready: bool,
    /// What made it, if anything did.
    pub owner: Owner,
}

/// What made a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Owner {
    /// Nothing.
    #[default]
    Nobody,
    /// A controller with its uid, and how many pods it wants.
    Scale(String, i64),
    /// Something that says of no number; why.
    Unscalable(String),
    /// Something that is not there.
    Missing,
}

/// What to write, and when to look again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// The new status; `None` when it is what it should be.
    pub status: Option<Value>,
    /// When an evicted pod is overdue.
    pub again: Option<SignedDuration>,
    /// Events of the budget: whether it is a warning, reason and message.
    pub events: Vec<(bool, &'static str, String)>,
}

/// Decides on one budget.
pub fn decide(object: &Value, pods: &[Member], now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if pods.is_empty() {
        plan.events.push((false, "NoPods", "No matching pods found".into()));
    }
    let told = &object["status"];
    let (expected, desired) = match expectation(&object["spec"], pods, &mut plan) {
        Ok(numbers) => numbers,
        Err(why) => {
            let message = format!("Failed to calculate the number of expected pods: {why}");
            plan.events.push((true, "CalculateExpectedPodCountFailed", message));
            let mut status = told.clone();
            budget::set_failed(&mut status, &why, &text(now));
            plan.status = (status != *told).then_some(status);
            return plan;
        }
    };
    let (disrupted, again) = disrupted(told, pods, now);
    plan.again = again;
    let healthy = pods.iter().filter(|pod| pod.ready && !pod.deleting && !disrupted.contains_key(&*pod.name));
    let healthy = healthy.count() as i64;
    let allowed = if expected <= 0 { 0 } else { (healthy - desired).max(0) };
    let mut status = json!({
        "currentHealthy": healthy, "desiredHealthy": desired, "expectedPods": expected,
        "disruptionsAllowed": allowed,
    });
    if !disrupted.is_empty() {
        status["disruptedPods"] = json!(disrupted);
    }
    let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
    if generation != 0 {
        status["observedGeneration"] = generation.into();
    }
    if !told["conditions"].is_null() {
        status["conditions"] = told["conditions"].clone();
    }
    if status != *told || !budget::is_current(told) {
        budget::set_condition(&mut status, &text(now));
        plan.status = Some(status);
    }
    plan
}

/// How many pods there should be, and how many of them healthy.
fn expectation(spec: &Value, pods: &[Member], plan: &mut Plan) -> Result<(i64, i64), String> {
    let (least, most) = (&spec["minAvailable"], &spec["maxUnavailable"]);
    if !most.is_null() {
        let expected = scale(spec, pods, plan)?;
        return Ok((expected, (expected - share(most, expected)?).max(0)));
    }
    match least {
        Value::Null => Ok((0, 0)),
        Value::Number(number) => Ok((pods.len() as i64, number.as_i64().unwrap_or(0))),
        _ => {
            let expected = scale(spec, pods, plan)?;
            Ok((expected, share(least, expected)?))
        }
    }
}

/// A number, or so many percent of a total, rounded up.
fn share(value: &Value, total: i64) -> Result<i64, String> {
    if let Some(number) = value.as_i64() {
        return Ok(number);
    }
    let text = value.as_str().unwrap_or_default();
    let percent = text.strip_suffix('%').and_then(|number| number.parse::<i64>().ok());
    let percent = percent.ok_or_else(|| {
        "invalid value for IntOrString: invalid type: string is not a percentage".to_owned()
    })?;
    Ok((percent * total + 99).div_euclid(100))
}

/// The pods that the controllers of these want.
fn scale(spec: &Value, pods: &[Member], plan: &mut Plan) -> Result<i64, String> {
    let mut scales: BTreeMap<&str, i64> = BTreeMap::new();
    let mut unmanaged = BTreeSet::new();
    for pod in pods {
        match &pod.owner {
            Owner::Nobody => {
                unmanaged.insert(&pod.name);
            }
            Owner::Scale(uid, scale) => {
                scales.insert(uid, *scale);
            }
            Owner::Unscalable(why) => return Err(why.clone()),
            Owner::Missing => return Err(format!("found no controllers for pod {:?}", pod.name)),
        }
    }
    if !unmanaged.is_empty() {
        let selector = &spec["selector"];
        plan.events.push((
            true,
            "UnmanagedPods",
            format!(
                "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As \
                 a result, the status of the PDB cannot be calculated correctly, which may result in undefined \
                 behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an \
                 integer value."
            ),
        ));
    }
    Ok(scales.values().sum())
}

/// Evicted pods that are still to be deleted, and when the first of them is overdue.
fn disrupted<'a>(
    told: &'a Value,
    pods: &'a [Member],
    now: Timestamp,
) -> (BTreeMap<&'a str, &'a str>, Option<SignedDuration>) {
    let (mut kept, mut again) = (BTreeMap::new(), None::<SignedDuration>);
    for pod in pods.iter().filter(|pod| !pod.deleting) {
        let Some(time) = told["disruptedPods"][&*pod.name].as_str() else { continue };
        let Ok(since) = time.parse::<Timestamp>() else { continue };
        let left = DELETION_TIMEOUT - now.duration_since(since);
        if !left.is_negative() {
            kept.insert(&*pod.name, time);
            again = Some(again.map_or(left, |first| first.min(left)));
        }
    }
    (kept, again)
}

/// RFC 3339, to the second.
pub fn text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:10:00Z".parse().unwrap()
    }

    fn pods(ready: usize, unready: usize) -> Vec<Member> {
        let pod = |at: usize| Member {
            name: format!("p{at}"),
            ready: at < ready,
            owner: Owner::Scale("rs".into(), 5),
            ..Member::default()
        };
        (0..ready + unready).map(pod).collect()
    }

    fn numbers(spec: Value, pods: &[Member]) -> [i64; 4] {
        let object = json!({"metadata": {"generation": 1}, "spec": spec, "status": {}});
        let status = decide(&object, pods, now()).status.unwrap();
        ["currentHealthy", "desiredHealthy", "expectedPods", "disruptionsAllowed"]
            .map(|field| status[field].as_i64().unwrap())
    }

    #[test]
    fn counts_what_upstream_counts() {
        let check = |spec: Value, ready, unready, expect| {
            assert_eq!(numbers(spec.clone(), &pods(ready, unready)), expect, "{spec}");
        };
        check(json!({"minAvailable": 2}), 3, 1, [3, 2, 4, 1]);
        check(json!({"minAvailable": 3}), 2, 0, [2, 3, 2, 0]);
        check(json!({"minAvailable": "50%"}), 4, 0, [4, 3, 5, 1]);
        check(json!({"maxUnavailable": 1}), 5, 0, [5, 4, 5, 1]);
        check(json!({"maxUnavailable": "30%"}), 5, 0, [5, 3, 5, 2]);
        check(json!({"maxUnavailable": 9}), 1, 0, [1, 0, 5, 1]);
        check(json!({"minAvailable": 0}), 0, 0, [0, 0, 0, 0]);
    }

    #[test]
    fn evicted_pods_do_not_count_until_they_are_overdue() {
        let object = |time: &str| {
            json!({"metadata": {"generation": 1}, "spec": {"minAvailable": 1},
                "status": {"disruptedPods": {"p0": time, "gone": time}}})
        };
        let fresh = decide(&object("2026-01-01T00:09:00Z"), &pods(2, 0), now());
        let status = fresh.status.unwrap();
        assert_eq!((&status["currentHealthy"], &status["disruptionsAllowed"]), (&json!(1), &json!(0)));
        assert_eq!(status["disruptedPods"], json!({"p0": "2026-01-01T00:09:00Z"}));
        assert_eq!(fresh.again, Some(SignedDuration::from_secs(60)));
        let late = decide(&object("2026-01-01T00:01:00Z"), &pods(2, 0), now()).status.unwrap();
        assert_eq!((&late["disruptionsAllowed"], late.get("disruptedPods")), (&json!(1), None));
    }

    #[test]
    fn a_settled_budget_is_left_alone_and_an_unknown_one_allows_nothing() {
        let mut object = json!({"metadata": {"generation": 1}, "spec": {"minAvailable": 1}, "status": {}});
        object["status"] = decide(&object, &pods(2, 0), now()).status.unwrap();
        assert_eq!(decide(&object, &pods(2, 0), now()).status, None);
        object["spec"] = json!({"maxUnavailable": 1});
        let mut pods = pods(2, 0);
        pods[0].owner = Owner::Missing;
        let status = decide(&object, &pods, now()).status.unwrap();
        assert_eq!(status["disruptionsAllowed"], 0);
        assert_eq!(status["conditions"][0]["message"], "found no controllers for pod \"p0\"");
    }
}
