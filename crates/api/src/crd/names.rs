//! What becomes of a definition's status: which names it may have, and its conditions.
//!
//! (After upstream's naming, establishing, non-structural-schema and API-approval
//! controllers, whose outcomes are put together in one step.) Pure: the time is given.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::CLEANUP;
use super::definition::condition;
use crate::tree::{entries, get, items, object_mut, text, texts};

/// Names that the other definitions of a group have been given.
#[derive(Debug, Default)]
pub struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Taken {
    /// The accepted names of all definitions of a group but one.
    pub fn of<'a>(others: impl IntoIterator<Item = &'a Value>, group: &str, but: &str) -> Self {
        let mut taken = Self::default();
        for other in others {
            if text(&other["spec"], "group") != group || text(&other["metadata"], "name") == but {
                continue;
            }
            let names = &other["status"]["acceptedNames"];
            let one = [text(names, "plural"), text(names, "singular")].into_iter();
            taken.resources.extend(one.chain(texts(names, "shortNames")).map(str::to_owned));
            taken.kinds.extend([text(names, "kind"), text(names, "listKind")].map(str::to_owned));
        }
        taken.resources.remove("");
        taken.kinds.remove("");
        taken
    }
}

/// The status that a definition should have; `None` when it has it.
pub fn decide(definition: &Value, taken: &Taken, now: &str) -> Option<Value> {
    let mut status = definition["status"].clone();
    if !status.is_object() {
        status = json!({});
    }
    // Names that were accepted once are not looked at again, whoever wrote over the
    // conditions since.
    let is_named = has_its_names(definition);
    if !is_named {
        name(definition, taken, &mut status, now);
    }
    let is = |ty: &str| {
        let mut conditions = items(&status, "conditions").iter();
        conditions.any(|one| text(one, "type") == ty && text(one, "status") == "True")
    };
    if is("NamesAccepted") && !is("Established") {
        // Names are told of before they are served.
        let (established, reason) =
            if is_named { ("True", "InitialNamesAccepted") } else { ("False", "Installing") };
        let found = json!({"type": "Established", "status": established, "reason": reason,
            "message": "the initial names have been accepted"});
        set_condition(&mut status, found, now);
    }
    if let Some(approval) = approval(definition) {
        set_condition(&mut status, approval, now);
    }
    (status != definition["status"]).then_some(status)
}

/// Whether the accepted names are those that the definition asks for.
fn has_its_names(definition: &Value) -> bool {
    let (asked, accepted) = (&definition["spec"]["names"], &definition["status"]["acceptedNames"]);
    let same = |field: &&str| text(asked, field) == text(accepted, field);
    let same_list = |field: &&str| texts(asked, field).eq(texts(accepted, field));
    ["plural", "singular", "kind", "listKind"].iter().all(same)
        && ["shortNames", "categories"].iter().all(same_list)
}

/// Gives a definition the names that nobody else has, and says so.
fn name(definition: &Value, taken: &Taken, status: &mut Value, now: &str) {
    let (accepted, conflict) = accept(definition, taken);
    status["acceptedNames"] = accepted;
    let accepted = match &conflict {
        None => json!({"type": "NamesAccepted", "status": "True", "reason": "NoConflicts",
            "message": "no conflicts found"}),
        Some((reason, message)) => json!({"type": "NamesAccepted", "status": "False", "reason": reason,
            "message": message}),
    };
    set_condition(status, accepted, now);
    if conflict.is_some() && condition(definition, "Established").is_none() {
        let found = json!({"type": "Established", "status": "False", "reason": "NotAccepted",
            "message": "not all names are accepted"});
        set_condition(status, found, now);
    }
}

/// The names that are accepted, and why others are not.
fn accept(definition: &Value, taken: &Taken) -> (Value, Conflict) {
    let asked = &definition["spec"]["names"];
    let mut names = definition["status"]["acceptedNames"].clone();
    if !names.is_object() {
        names = json!({"kind": "", "plural": ""});
    }
    let old = names.clone();
    let mut conflict = None;
    let mut one = |field: &str, reason: &'static str, taken: &BTreeSet<String>, conflict: &mut Conflict| {
        let name = text(asked, field);
        if name != text(&old, field) && taken.contains(name) {
            *conflict = Some((reason, in_use(name)));
        } else if let Some(name) = get(asked, field) {
            names[field] = name.clone();
        }
    };
    // The last conflict is the one that is told.
    one("plural", "PluralConflict", &taken.resources, &mut conflict);
    one("singular", "SingularConflict", &taken.resources, &mut conflict);
    let short = short_names(asked, &old, taken, &mut conflict);
    one("kind", "KindConflict", &taken.kinds, &mut conflict);
    one("listKind", "ListKindConflict", &taken.kinds, &mut conflict);
    if short {
        copy(asked, &mut names, "shortNames");
    }
    copy(asked, &mut names, "categories");
    (names, conflict)
}

/// Reason and message.
type Conflict = Option<(&'static str, String)>;

fn in_use(name: &str) -> String {
    format!("{name:?} is already in use")
}

fn copy(from: &Value, to: &mut Value, field: &str) {
    match get(from, field) {
        Some(value) => to[field] = value.clone(),
        None => drop(to.as_object_mut().and_then(|names| names.remove(field))),
    }
}

/// Whether the short names are accepted.
fn short_names(asked: &Value, old: &Value, taken: &Taken, conflict: &mut Conflict) -> bool {
    let own: Vec<&str> = texts(old, "shortNames").collect();
    let mut wrong: Vec<String> = Vec::new();
    for name in texts(asked, "shortNames") {
        let message = in_use(name);
        if !own.contains(&name) && taken.resources.contains(name) && !wrong.contains(&message) {
            wrong.push(message);
        }
    }
    let message = match &wrong[..] {
        [] => return true,
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    *conflict = Some(("ShortNamesConflict", message));
    false
}

/// Sets a condition; its time changes with its status.
pub fn set_condition(status: &mut Value, mut new: Value, now: &str) {
    let list = status.as_object_mut().expect("a status is an object").entry("conditions");
    let list = list.or_insert_with(|| json!([]));
    if !list.is_array() {
        *list = json!([]);
    }
    let Some(list) = list.as_array_mut() else { return };
    match list.iter_mut().find(|found| text(found, "type") == text(&new, "type")) {
        Some(found) => {
            let same = text(found, "status") == text(&new, "status");
            let time = get(found, "lastTransitionTime").cloned().filter(|_| same);
            new["lastTransitionTime"] = time.unwrap_or_else(|| now.into());
            *found = new;
        }
        None => {
            new["lastTransitionTime"] = now.into();
            list.push(new);
        }
    }
}

/// Whether a definition is of a group that the community protects.
pub fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

/// The annotation by which protected groups are approved.
pub const APPROVED: &str = "api-approved.kubernetes.io";
const POLICY: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

/// What the approval annotation says: status, reason and message.
pub fn approval_state(definition: &Value) -> (&'static str, &'static str, String) {
    let annotation = entries(&definition["metadata"], "annotations")
        .find(|(name, _)| *name == APPROVED)
        .and_then(|(_, value)| value.as_str())
        .unwrap_or_default();
    if annotation.is_empty() {
        let message = format!("protected groups must have approval annotation {APPROVED:?}, {POLICY}");
        ("False", "MissingAnnotation", message)
    } else if annotation.starts_with("unapproved") {
        ("False", "UnapprovedAnnotation", format!("not approved: {annotation:?}"))
    } else if annotation.split_once("://").is_some_and(|(scheme, rest)| {
        !scheme.is_empty() && !rest.is_empty() && !rest.starts_with('/') && !annotation.contains(' ')
    }) {
        ("True", "ApprovedAnnotation", format!("approved in {annotation}"))
    } else {
        let message = format!(
            "protected groups must have approval annotation {APPROVED:?} with either a URL or a reason starting \
             with \"unapproved\", {POLICY}"
        );
        ("False", "InvalidAnnotation", message)
    }
}

fn approval(definition: &Value) -> Option<Value> {
    if !is_protected(text(&definition["spec"], "group")) {
        return None;
    }
    let (status, reason, message) = approval_state(definition);
    Some(json!({"type": "KubernetesAPIApprovalPolicyConformant", "status": status, "reason": reason,
        "message": message}))
}

/// Marks a definition whose deletion has been asked for: its objects go first.
pub fn hold(definition: &mut Value, now: &str) {
    let meta = object_mut(definition, "metadata");
    if !meta["finalizers"].is_array() {
        meta["finalizers"] = json!([]);
    }
    if let Some(finalizers) = meta["finalizers"].as_array_mut()
        && !finalizers.iter().any(|finalizer| finalizer == CLEANUP)
    {
        finalizers.push(CLEANUP.into());
    }
    let pending = terminating(
        "True",
        "InstanceDeletionPending",
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
    );
    set_condition(object_mut(definition, "status"), pending, now);
}

/// A condition of type Terminating.
pub fn terminating(status: &str, reason: &str, message: &str) -> Value {
    json!({"type": "Terminating", "status": status, "reason": reason, "message": message})
}

/// Whether the definition waits for its objects to go.
pub fn is_held(definition: &Value) -> bool {
    let meta = &definition["metadata"];
    get(meta, "deletionTimestamp").is_some() && items(meta, "finalizers").iter().any(|name| name == CLEANUP)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(name: &str, names: Value) -> Value {
        json!({"metadata": {"name": name}, "spec": {"group": "example.com", "names": names},
            "status": {"acceptedNames": {"kind": "", "plural": ""}, "storedVersions": ["v1"]}})
    }

    fn conditions(status: &Value) -> Vec<String> {
        let show = |c: &Value| {
            format!("{}={} {}: {}", text(c, "type"), text(c, "status"), text(c, "reason"), text(c, "message"))
        };
        items(status, "conditions").iter().map(show).collect()
    }

    #[test]
    fn names_belong_to_the_first() {
        let boat = json!({"plural": "boats", "singular": "boat", "kind": "Boat", "listKind": "BoatList", "shortNames": ["b"]});
        let mut first = definition("boats.example.com", boat.clone());
        let status = decide(&first, &Taken::default(), "t1").unwrap();
        let accepted = "NamesAccepted=True NoConflicts: no conflicts found";
        let installing = "Established=False Installing: the initial names have been accepted";
        assert_eq!(conditions(&status), [accepted, installing]);
        assert_eq!(status["acceptedNames"], boat);
        first["status"] = status;
        let status = decide(&first, &Taken::default(), "t1").unwrap();
        let established = "Established=True InitialNamesAccepted: the initial names have been accepted";
        assert_eq!(conditions(&status), [accepted, established]);
        first["status"] = status;
        assert_eq!(decide(&first, &Taken::default(), "t2"), None, "a settled definition is left alone");
        let mut wiped = first.clone();
        wiped["status"]["conditions"] = json!([{"type": "T", "status": "True"}]);
        assert_eq!(decide(&wiped, &Taken::default(), "t2"), None, "whoever wiped the conditions meant it");
        let mut named = first.clone();
        named["status"]["conditions"] = json!([first["status"]["conditions"][0]]);
        assert!(decide(&named, &Taken::default(), "t2").is_some(), "what has its names is established");

        let ship = json!({"plural": "ships", "singular": "boat", "kind": "Boat", "listKind": "ShipList", "shortNames": ["b", "s"]});
        let second = definition("ships.example.com", ship);
        let taken = Taken::of([&first, &second], "example.com", "ships.example.com");
        let status = decide(&second, &taken, "t3").unwrap();
        assert_eq!(
            conditions(&status),
            [
                "NamesAccepted=False KindConflict: \"Boat\" is already in use",
                "Established=False NotAccepted: not all names are accepted"
            ]
        );
        assert_eq!(status["acceptedNames"], json!({"plural": "ships", "listKind": "ShipList", "kind": ""}));
        let mut second = second;
        second["status"] = status;
        second["status"] = decide(&second, &Taken::default(), "t4").unwrap();
        let status = decide(&second, &Taken::default(), "t4").unwrap();
        assert_eq!(status["conditions"][1]["lastTransitionTime"], "t4", "once the names are free");
    }

    #[test]
    fn protected_groups_say_whether_they_are_approved() {
        let check = |annotation: &str, expect: &str| {
            let mut definition = definition("x.k8s.io", json!({"plural": "x"}));
            definition["spec"]["group"] = "a.k8s.io".into();
            definition["metadata"]["annotations"] = json!({ APPROVED: annotation });
            assert_eq!(approval(&definition).unwrap()["reason"], expect, "{annotation}");
        };
        check("", "MissingAnnotation");
        check("unapproved, experimental", "UnapprovedAnnotation");
        check("https://github.com/kubernetes/pull/1", "ApprovedAnnotation");
        check("x", "InvalidAnnotation");
        assert!(!is_protected("ak8s.io") && is_protected("k8s.io"));
    }
}
