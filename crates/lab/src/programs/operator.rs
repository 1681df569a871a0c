//! An operator on controller-runtime (`tests/upstream/operator`): two instances of which one
//! leads, a kind of their own, children with owner references, a finalizer, conditions, events.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{has, last_words};
use crate::machine::until;
use crate::paths;
use crate::plane::{Plane, Started};

const PATIENCE: Duration = Duration::from_secs(120);

/// How long `kubectl wait` waits.
const TIMEOUT: &str = "--timeout=120s";

const BLUE: &str = r#"
apiVersion: example.com/v1
kind: Site
metadata: {name: blue}
spec: {title: Blue, replicas: 2}
"#;

const GREEN: &str = r#"
apiVersion: example.com/v1
kind: Site
metadata: {name: green}
spec: {title: Green}
"#;

/// The operator's life, from its definition to the last of its children.
///
/// # Errors
/// Something does not come about.
pub fn operator() -> Result<()> {
    let plane = Plane::start(&["--simulate", "2"])?;
    let definition = paths::repository().join("tests/upstream/operator/crd.yaml");
    plane.k(&["apply", "-f", &definition.display().to_string()])?;
    plane.k(&["wait", "--for=condition=Established", "crd/sites.example.com", TIMEOUT])?;
    let mut instances = vec![instance(&plane, "one")?, instance(&plane, "two")?];
    let done = drive(&plane, &mut instances);
    let said: Vec<String> =
        instances.iter().map(|(name, program)| format!("{name}:\n{}", last_words(&program.said()))).collect();
    done.with_context(|| said.join("\n"))
}

type Instance = (&'static str, Started);

fn instance(plane: &Plane, name: &'static str) -> Result<Instance> {
    let mut command = plane.program("operator")?;
    command.args(["--name", name]);
    Ok((name, Started::new(command, &plane.dir().join(format!("{name}.log")))?))
}

fn drive(plane: &Plane, instances: &mut Vec<Instance>) -> Result<()> {
    let first = leader(plane, "")?;
    created(plane, &first)?;
    followed(plane)?;
    restored(plane)?;

    // Killed, it cannot give its Lease back: the other has to wait until that has run out.
    let at = instances.iter().position(|(name, _)| *name == first).context("who leads is one of them")?;
    drop(instances.remove(at));
    plane.k(&["patch", "site/blue", "--type=merge", "-p", r#"{"spec":{"title":"Navy"}}"#])?;
    let second = leader(plane, &first)?;
    page(plane, "blue", "Navy")?;
    reads(plane, "site/blue", "{.status.reconciledBy}", &second)?;

    orphaned(plane)?;
    deleted(plane, &second)?;
    instances.iter_mut().try_for_each(|(_, program)| program.check())
}

/// Waits for the answer to a question about one object.
fn reads(plane: &Plane, object: &str, path: &str, wanted: &str) -> Result<()> {
    until(PATIENCE, || {
        let found = plane.k(&["get", object, "-o", &format!("jsonpath={path}")])?;
        ensure!(found == wanted, "{object} has {found:?} at {path}, not {wanted:?}");
        Ok(())
    })
}

/// What the page of a Site says, once it says that.
fn page(plane: &Plane, name: &str, title: &str) -> Result<()> {
    reads(plane, &format!("configmap/{name}"), "{.data.title}", title)
}

/// Who holds the Lease, once it is someone else than `before`.
fn leader(plane: &Plane, before: &str) -> Result<String> {
    until(PATIENCE, || {
        let path = "jsonpath={.spec.holderIdentity}";
        let holder = plane.k(&["get", "lease/sites.example.com", "-o", path])?;
        ensure!(!holder.is_empty() && holder != before, "the Lease is {holder:?}'s");
        Ok(holder)
    })
}

/// An object comes: children, owners, finalizer, status, events; what breaks its schema does not.
fn created(plane: &Plane, leader: &str) -> Result<()> {
    let refused = plane.apply(&BLUE.replace("replicas: 2", "replicas: -2"));
    let refused = refused.err().context("a Site of -2 replicas was let in")?;
    has(&format!("{refused:#}"), &["spec.replicas", "should be greater than or equal to 0"])?;

    plane.apply(BLUE)?;
    plane.k(&["wait", "--for=condition=Ready", "site/blue", TIMEOUT])?;
    page(plane, "blue", "Blue")?;
    let uid = plane.k(&["get", "site/blue", "-o", "jsonpath={.metadata.uid}"])?;
    for child in ["configmap/blue", "deployment/blue"] {
        let path = "{.metadata.ownerReferences[0].uid} {.metadata.ownerReferences[0].controller}";
        reads(plane, child, path, &format!("{uid} true"))?;
    }
    let path = r#"{.metadata.managedFields[?(@.manager=="site-operator")].operation}"#;
    reads(plane, "deployment/blue", path, "Apply")?;
    let path = "{.status.observedGeneration} {.status.readyReplicas} {.status.reconciledBy}";
    reads(plane, "site/blue", path, &format!("1 2 {leader}"))?;
    reads(plane, "site/blue", "{.metadata.finalizers}", r#"["example.com/farewell"]"#)?;
    let shown = plane.k(&["get", "site/blue", "--no-headers"])?;
    ensure!(shown.split_whitespace().take(3).eq(["blue", "Blue", "True"]), "{shown}");
    until(PATIENCE, || {
        let said = plane.k(&["events", "--for", "site/blue", "--no-headers"])?;
        has(&said, &["PageCreated", "the page says \"Blue\"", "Ready", "2 of 2 replicas are ready"])
    })
}

/// Its children follow what changes, through the object and its scale.
fn followed(plane: &Plane) -> Result<()> {
    plane.k(&["scale", "site/blue", "--replicas=3"])?;
    reads(plane, "site/blue", "{.status.observedGeneration} {.status.readyReplicas}", "2 3")?;
    reads(plane, "deployment/blue", "{.status.readyReplicas}", "3")?;
    plane.k(&["patch", "site/blue", "--type=merge", "-p", r#"{"spec":{"title":"Azure"}}"#])?;
    page(plane, "blue", "Azure")?;
    reads(plane, "deployment/blue", "{.spec.template.spec.containers[0].env[0].value}", "Azure")?;
    plane.k(&["rollout", "status", "deployment/blue", TIMEOUT])?;
    plane.k(&["wait", "--for=condition=Ready", "site/blue", TIMEOUT])?;
    reads(plane, "site/blue", r#"{.status.conditions[?(@.type=="Ready")].observedGeneration}"#, "3")
}

/// What others do to its children is undone.
fn restored(plane: &Plane) -> Result<()> {
    plane.k(&["scale", "deployment/blue", "--replicas=1"])?;
    reads(plane, "deployment/blue", "{.spec.replicas} {.status.readyReplicas}", "3 3")?;
    plane.k(&["delete", "configmap/blue"])?;
    page(plane, "blue", "Azure")?;
    let before = plane.k(&["get", "deployment/blue", "-o", "jsonpath={.metadata.uid}"])?;
    plane.k(&["delete", "deployment/blue", "--cascade=foreground", TIMEOUT])?;
    until(PATIENCE, || {
        let path = "jsonpath={.metadata.uid} {.status.readyReplicas}";
        let found = plane.k(&["get", "deployment/blue", "-o", path])?;
        ensure!(found.ends_with(" 3") && !found.starts_with(&before), "{found}");
        Ok(())
    })
}

/// Orphaned children stay, and nobody owns them.
fn orphaned(plane: &Plane) -> Result<()> {
    plane.apply(GREEN)?;
    plane.k(&["wait", "--for=condition=Ready", "site/green", TIMEOUT])?;
    plane.k(&["delete", "site/green", "--cascade=orphan", TIMEOUT])?;
    for child in ["configmap/green", "deployment/green"] {
        reads(plane, child, "{.metadata.ownerReferences}", "")?;
    }
    reads(plane, "deployment/green", "{.status.readyReplicas}", "1")
}

/// The finalizer runs before the object goes; its children, and theirs, go after it.
fn deleted(plane: &Plane, leader: &str) -> Result<()> {
    let uid = plane.k(&["get", "site/blue", "-o", "jsonpath={.metadata.uid}"])?;
    plane.k(&["delete", "site/blue", "--wait", TIMEOUT])?;
    let path = "jsonpath={.data.uid} {.data.by}";
    let note = plane.k(&["get", "configmap/farewell-blue", "-o", path])?;
    ensure!(note == format!("{uid} {leader}"), "the farewell says {note:?}");
    until(PATIENCE, || {
        let left = plane.k(&["get", "deployments,replicasets,pods", "-l", "site=blue", "-o", "name"])?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })?;
    until(PATIENCE, || {
        let names = plane.k(&["get", "configmaps", "-o", "name"])?;
        if names.lines().any(|name| name == "configmap/blue") {
            bail!("{names}");
        }
        has(&names, &["configmap/green", "configmap/farewell-green"])
    })
}
