//! What selects a pod besides itself: services, and the controllers that made it. The
//! default spread constraints count the pods of the same service and controller.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use carrack_api::Record;

use super::labels::{LabelSet, Selector};
use super::pod::PodInfo;

/// Kinds that are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OwnerKind {
    /// `v1` Service.
    Service,
    /// `v1` ReplicationController.
    ReplicationController,
    /// `apps/v1` ReplicaSet.
    ReplicaSet,
    /// `apps/v1` StatefulSet.
    StatefulSet,
}

/// What the services of a namespace select, by name.
type Services = BTreeMap<Box<str>, (LabelSet, Selector)>;

/// Selectors of all services and controllers.
#[derive(Debug, Default)]
pub struct Owners {
    services: HashMap<Box<str>, Services>,
    controllers: HashMap<(OwnerKind, Box<str>, Box<str>), Arc<Selector>>,
}

impl Owners {
    /// Takes an object's state.
    pub fn set(&mut self, kind: OwnerKind, record: &Record) {
        let object = record.decode_lean();
        let (namespace, name) = (Box::from(record.key.namespace()), Box::from(record.key.name()));
        let selector = &object["spec"]["selector"];
        let plain = || {
            let labels = LabelSet::read(selector);
            let equal = Selector::equals(labels.iter());
            (labels, equal)
        };
        match kind {
            OwnerKind::Service if selector.is_null() => self.remove(kind, record),
            OwnerKind::Service => {
                self.services.entry(namespace).or_default().insert(name, plain());
            }
            OwnerKind::ReplicationController => {
                self.controllers.insert((kind, namespace, name), Arc::new(plain().1));
            }
            OwnerKind::ReplicaSet | OwnerKind::StatefulSet => {
                self.controllers.insert((kind, namespace, name), Arc::new(Selector::read(selector)));
            }
        }
    }

    /// Forgets an object.
    pub fn remove(&mut self, kind: OwnerKind, record: &Record) {
        let (namespace, name) = (record.key.namespace(), record.key.name());
        if kind != OwnerKind::Service {
            self.controllers.remove(&(kind, namespace.into(), name.into()));
        } else if let Some(services) = self.services.get_mut(namespace) {
            services.remove(name);
            if services.is_empty() {
                self.services.remove(namespace);
            }
        }
    }

    /// Forgets all objects of a kind.
    pub fn clear(&mut self, kind: OwnerKind) {
        match kind {
            OwnerKind::Service => self.services.clear(),
            kind => self.controllers.retain(|(one, ..), _| *one != kind),
        }
    }

    /// Selects the pods that belong together with this one; everything when nothing
    /// says who does.
    pub fn default_selector(&self, pod: &PodInfo) -> Selector {
        let mut merged: BTreeMap<&str, &str> = BTreeMap::new();
        for (labels, selector) in self.services.get(&*pod.namespace).into_iter().flat_map(BTreeMap::values) {
            if selector.matches(&pod.labels) {
                merged.extend(labels.iter());
            }
        }
        let of_services = Selector::equals(merged);
        let Some((group, kind, name)) = &pod.controller else { return of_services };
        let kind = match (&**group, &**kind) {
            ("", "ReplicationController") => OwnerKind::ReplicationController,
            ("apps", "ReplicaSet") => OwnerKind::ReplicaSet,
            ("apps", "StatefulSet") => OwnerKind::StatefulSet,
            _ => return of_services,
        };
        let key = (kind, Box::from(&*pod.namespace), name.clone());
        match self.controllers.get(&key) {
            // A selector that selects nothing says nothing.
            Some(selector) if !selector.is_nothing() => of_services.and(selector),
            _ => of_services,
        }
    }
}
