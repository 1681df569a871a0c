//! When a pod has to leave a tainted node.

use std::time::Duration;

use crate::common::Taint;
use crate::common::pod::Toleration;

/// What to do about a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// It may stay.
    Stay,
    /// It leaves now.
    Evict,
    /// It may stay for so long.
    EvictAfter(Duration),
}

/// Decides: `taints` are the node's NoExecute taints, `waited` is how long the pod has
/// been tolerating them.
pub fn decide(taints: &[Taint], tolerations: &[Toleration], waited: Duration) -> Plan {
    let mut patience: Option<i64> = None;
    for taint in taints {
        let mut used = tolerations.iter().filter(|toleration| taint.tolerated_by(toleration)).peekable();
        if used.peek().is_none() {
            return Plan::Evict;
        }
        let shortest = used.filter_map(|toleration| toleration.toleration_seconds).min();
        patience = patience.into_iter().chain(shortest).min();
    }
    let Some(seconds) = patience else { return Plan::Stay };
    let patience = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    match patience.checked_sub(waited) {
        Some(left) if !left.is_zero() => Plan::EvictAfter(left),
        _ => Plan::Evict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_patient_toleration_counts() {
        let taint = |key: &str| Taint::new(key, "NoExecute");
        let tolerates = |key: &str, seconds: Option<i64>| Toleration {
            key: key.into(),
            operator: "Exists".into(),
            effect: "NoExecute".into(),
            toleration_seconds: seconds,
            ..Toleration::default()
        };
        let after = |seconds| Plan::EvictAfter(Duration::from_secs(seconds));
        for (taints, tolerations, waited, expect) in [
            (vec![], vec![], 0, Plan::Stay),
            (vec![taint("a")], vec![], 0, Plan::Evict),
            (vec![taint("a")], vec![tolerates("a", None)], 999, Plan::Stay),
            (vec![taint("a")], vec![tolerates("b", None)], 0, Plan::Evict),
            (vec![taint("a")], vec![tolerates("a", Some(300))], 0, after(300)),
            (vec![taint("a")], vec![tolerates("a", Some(300))], 100, after(200)),
            (vec![taint("a")], vec![tolerates("a", Some(300))], 300, Plan::Evict),
            (vec![taint("a")], vec![tolerates("a", Some(0))], 0, Plan::Evict),
            (
                vec![taint("a"), taint("b")],
                vec![tolerates("", Some(9)), tolerates("b", Some(5))],
                0,
                after(5),
            ),
            (vec![taint("a"), taint("b")], vec![tolerates("a", Some(9))], 0, Plan::Evict),
        ] {
            assert_eq!(decide(&taints, &tolerations, Duration::from_secs(waited)), expect);
        }
    }
}
