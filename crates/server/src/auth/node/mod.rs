//! The Node authorizer: a node reads what its pods need, and writes what is its own.
//!
//! Follows upstream's `plugin/pkg/auth/authorizer/node`. It says yes or nothing, so
//! that RBAC may grant more; what it cannot see (an object about to be created) is left
//! to the NodeRestriction admission.

mod graph;
pub(crate) mod references;

use std::sync::Arc;

use carrack_store::Store;
use futures::future::BoxFuture;

use super::follow::Follow;
use super::node_identity;
use super::rbac::{Rule, policy};
use crate::request::{Attributes, User};
use crate::seams::{Authorizer, Decision};
use graph::{Graph, Of};

/// Where nodes keep their Leases.
pub const LEASES: &str = "kube-node-lease";

/// The authorizer. Share it by `Arc`.
pub struct NodeAuthorizer {
    graph: Follow<Graph>,
    /// What every node may do, whichever it is.
    rules: Vec<Rule>,
}

/// `Ok`: allowed. `Err`: no opinion, for this reason.
type Answer = Result<(), String>;

impl NodeAuthorizer {
    /// An authorizer over the pods and volumes of a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { graph: Follow::new(store), rules: policy::cluster_role("system:node") }
    }

    /// Decides on one request.
    pub fn decide(&self, user: &User, attributes: &Attributes) -> Decision {
        let answer = match node_identity(user) {
            None => Err(String::new()),
            Some("") => Err(format!("unknown node for user {:?}", user.name)),
            Some(node) => self.answer(node, attributes),
        };
        match answer {
            Ok(()) => Decision::Allow(String::new()),
            Err(reason) => Decision::NoOpinion(reason),
        }
    }

    fn answer(&self, node: &str, at: &Attributes) -> Answer {
        match (&*at.group, &*at.resource) {
            _ if !at.is_resource => self.general(at),
            ("", "secrets") => self.read(node, Of::Secret, at),
            ("", "configmaps") => self.read(node, Of::ConfigMap, at),
            ("", "persistentvolumeclaims") => self.volume_claim(node, at),
            ("", "persistentvolumes") => self.get(node, at, |graph| graph.mounts(node, &at.name)),
            ("resource.k8s.io", "resourceclaims") => {
                self.get(node, at, |graph| graph.reads(node, Of::ResourceClaim, &at.namespace, &at.name))
            }
            ("storage.k8s.io", "volumeattachments") => {
                self.get(node, at, |graph| graph.attaches(node, &at.name))
            }
            ("", "serviceaccounts") => self.service_account(node, at),
            ("coordination.k8s.io", "leases") => lease(node, at),
            ("storage.k8s.io", "csinodes") => csi_node(node, at),
            ("resource.k8s.io", "resourceslices") => self.slice(node, at),
            ("", "nodes") => own_node(node, at),
            ("", "pods") => self.pod(node, at),
            // Their feature gate is off by default.
            ("certificates.k8s.io", "podcertificaterequests") => Err(String::new()),
            _ => self.general(at),
        }
    }

    fn general(&self, at: &Attributes) -> Answer {
        if self.rules.iter().any(|rule| rule.allows(at)) { Ok(()) } else { Err(String::new()) }
    }

    /// Whether the named object has to do with the node.
    fn related(&self, node: &str, at: &Attributes, has: impl FnOnce(&Graph) -> bool) -> Answer {
        if at.name.is_empty() {
            return Err("No Object name found".into());
        }
        if has(&self.graph.read()) {
            return Ok(());
        }
        Err(format!("no relationship found between node '{node}' and this object"))
    }

    fn get(&self, node: &str, at: &Attributes, has: impl FnOnce(&Graph) -> bool) -> Answer {
        if &*at.verb != "get" {
            return Err("can only get individual resources of this type".into());
        }
        if !at.subresource.is_empty() {
            return Err("cannot get subresource".into());
        }
        self.related(node, at, has)
    }

    /// Reading single objects that pods refer to.
    fn read(&self, node: &str, of: Of, at: &Attributes) -> Answer {
        if !at.is_read_only() {
            return Err("can only read resources of this type".into());
        }
        if !at.subresource.is_empty() {
            return Err("cannot read subresource".into());
        }
        if at.namespace.is_empty() {
            return Err("can only read namespaced object of this type".into());
        }
        self.related(node, at, |graph| graph.reads(node, of, &at.namespace, &at.name))
    }

    fn volume_claim(&self, node: &str, at: &Attributes) -> Answer {
        let reads = |graph: &Graph| graph.reads(node, Of::VolumeClaim, &at.namespace, &at.name);
        if &*at.subresource != "status" {
            return self.get(node, at, reads);
        }
        if !matches!(&*at.verb, "update" | "patch") {
            return Err("can only get/update/patch this type".into());
        }
        self.related(node, at, reads)
    }

    fn service_account(&self, node: &str, at: &Attributes) -> Answer {
        if &*at.verb == "get" && at.subresource.is_empty() {
            return self.read(node, Of::ServiceAccount, at);
        }
        if &*at.verb != "create" || at.name.is_empty() {
            return Err("can only create tokens for individual service accounts".into());
        }
        if &*at.subresource != "token" {
            return Err("can only create token subresource of serviceaccount".into());
        }
        self.related(node, at, |graph| graph.reads(node, Of::ServiceAccount, &at.namespace, &at.name))
    }

    fn slice(&self, node: &str, at: &Attributes) -> Answer {
        if !at.subresource.is_empty() {
            return Err("cannot authorize ResourceSlice subresources".into());
        }
        match &*at.verb {
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => {
                self.related(node, at, |graph| graph.offers(node, &at.name))
            }
            "watch" | "list" | "deletecollection" if selects(at, "spec.nodeName", node) => Ok(()),
            "watch" | "list" | "deletecollection" => {
                Err("can only list/watch/deletecollection resourceslices with nodeName field selector".into())
            }
            _ => Err("only the following verbs are allowed for a ResourceSlice: get, watch, list, create, \
                      update, patch, delete, deletecollection"
                .into()),
        }
    }

    fn pod(&self, node: &str, at: &Attributes) -> Answer {
        let runs = |graph: &Graph| graph.runs(node, &at.namespace, &at.name);
        match (&*at.subresource, &*at.verb) {
            ("", "get") => self.get(node, at, runs),
            ("", "list" | "watch") if selects(at, "spec.nodeName", node) => Ok(()),
            ("", "list" | "watch") if !at.name.is_empty() => self.related(node, at, runs),
            ("", "list" | "watch") => {
                Err("can only list/watch pods with spec.nodeName field selector".into())
            }
            // Admission narrows these down to the node's own pods.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
            _ => Err(String::new()),
        }
    }
}

impl Authorizer for NodeAuthorizer {
    fn authorize<'a>(&'a self, user: &'a User, attributes: &'a Attributes) -> BoxFuture<'a, Decision> {
        Box::pin(std::future::ready(self.decide(user, attributes)))
    }
}

fn lease(node: &str, at: &Attributes) -> Answer {
    if !matches!(&*at.verb, "get" | "create" | "update" | "patch" | "delete") {
        return Err("can only get, create, update, patch, or delete a node lease".into());
    }
    if &*at.namespace != LEASES {
        return Err(format!("can only access leases in the {LEASES:?} system namespace"));
    }
    if &*at.verb != "create" && &*at.name != node {
        return Err("can only access node lease with the same name as the requesting node".into());
    }
    Ok(())
}

fn csi_node(node: &str, at: &Attributes) -> Answer {
    if !matches!(&*at.verb, "get" | "create" | "update" | "patch" | "delete") {
        return Err("can only get, create, update, patch, or delete a CSINode".into());
    }
    if !at.subresource.is_empty() {
        return Err("cannot authorize CSINode subresources".into());
    }
    if &*at.verb != "create" && &*at.name != node {
        return Err("can only access CSINode with the same name as the requesting node".into());
    }
    Ok(())
}

fn own_node(node: &str, at: &Attributes) -> Answer {
    match (&*at.subresource, &*at.verb) {
        // Admission narrows these down to the node itself.
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
        ("", "get" | "list" | "watch") => match &*at.name {
            name if name == node => Ok(()),
            "" => Err(format!("node '{node}' cannot read all nodes, only its own Node object")),
            other => Err(format!("node '{node}' cannot read '{other}', only its own Node object")),
        },
        _ => Err(String::new()),
    }
}

/// Whether the request's field selector demands `field` to be exactly `value`.
fn selects(at: &Attributes, field: &str, value: &str) -> bool {
    carrack_api::selector::Fields::parse(&at.field_selector)
        .is_ok_and(|selector| selector.exact(field) == Some(value))
}

#[cfg(test)]
mod tests;
