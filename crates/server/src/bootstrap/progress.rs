//! How far a server's start has come, as its checks of health tell under upstream's names.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::seams::Check;

/// What is done once at the start, each before the server is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The namespaces that every cluster has.
    Namespaces,
    /// The priority classes of the cluster's own pods.
    PriorityClasses,
    /// The range of cluster IPs.
    Addresses,
    /// The `kubernetes` Service and what it leads to.
    Service,
    /// What servers behind this one verify clients by.
    Authentication,
    /// Since when the use of old tokens is noted.
    TokenTracking,
    /// Default roles and bindings.
    Roles,
    /// What flow control goes by.
    FlowControl,
    /// The conditions of its FlowSchemas.
    FlowConditions,
    /// The APIServices of what is built in.
    ApiServices,
    /// That they are available.
    Available,
    /// The server's own lease.
    Identity,
}

const STAGES: &[(Stage, &str)] = &[
    (Stage::Namespaces, "poststarthook/start-system-namespaces-controller"),
    (Stage::PriorityClasses, "poststarthook/scheduling/bootstrap-system-priority-classes"),
    (Stage::Addresses, "poststarthook/start-kubernetes-service-cidr-controller"),
    (Stage::Service, "poststarthook/bootstrap-controller"),
    (Stage::Authentication, "poststarthook/start-cluster-authentication-info-controller"),
    (Stage::TokenTracking, "poststarthook/start-legacy-token-tracking-controller"),
    (Stage::Roles, "poststarthook/rbac/bootstrap-roles"),
    (Stage::FlowControl, "poststarthook/priority-and-fairness-config-producer"),
    (Stage::FlowConditions, "poststarthook/priority-and-fairness-config-consumer"),
    (Stage::ApiServices, "poststarthook/apiservice-registration-controller"),
    (Stage::Available, "autoregister-completion"),
    (Stage::Identity, "poststarthook/start-kube-apiserver-identity-lease-controller"),
];

/// The stages that are done. Clones share them; what is done once stays done.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<AtomicU32>);

impl Progress {
    /// Notes that stages are done.
    pub fn done(&self, stages: &[Stage]) {
        let bits = stages.iter().fold(0, |bits, stage| bits | bit(*stage));
        self.0.fetch_or(bits, Ordering::Release);
    }

    /// A check for each stage.
    pub(crate) fn checks(&self) -> impl Iterator<Item = Check> {
        STAGES.iter().map(|(stage, name)| {
            let (done, stage) = (self.0.clone(), *stage);
            let probe = move || match done.load(Ordering::Acquire) & bit(stage) {
                0 => Err("not finished".to_owned()),
                _ => Ok(()),
            };
            Check { name: (*name).into(), probe: Arc::new(probe), live: true }
        })
    }
}

fn bit(stage: Stage) -> u32 {
    1 << stage as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_has_a_check_of_its_own() {
        let progress = Progress::default();
        let failing = || progress.checks().filter(|check| (check.probe)().is_err()).count();
        for (done, (stage, _)) in STAGES.iter().enumerate() {
            assert_eq!(failing(), STAGES.len() - done);
            progress.done(&[*stage]);
        }
        assert_eq!(failing(), 0);
    }
}
