//! Server-side apply: merging a configuration into an object, with everything that
//! makes it a statement of ownership. (After structured-merge-diff's `merge.Updater`.)

use serde_json::Value;

use super::compare::{self, Difference};
use super::conflict::{self, Conflict};
use super::entries::{self, Entry};
use super::set::{self, Set};
use super::types::Types;
use super::{BEFORE_FIRST_APPLY, Write, check, fields, last_applied, merge, reconcile, strip, track};
use crate::decode;
use crate::kind::group_version;
use crate::schema::Ty;
use crate::status::Status;

/// Who may keep migrating from client-side apply without being asked.
const KUBECTL: &str = "kubectl";

/// What an apply makes of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The object with the configuration merged in, without managedFields and not yet
    /// decoded; `None` when it stays as it is.
    pub object: Option<Value>,
    /// `metadata.managedFields`; `None` when there are none.
    pub managed: Option<Value>,
    /// What `metadata.annotations` must hold of client-side apply, if it holds any.
    pub last_applied: Option<String>,
}

/// Applies a configuration to an object (`None`: there is none yet).
///
/// # Errors
/// 400 for another type or a configuration with managedFields, 409 for conflicts unless
/// they are to be overcome by `force`, 500 (as upstream has it) for a configuration that
/// does not fit the schema.
pub fn apply(
    types: &Types<'_>,
    write: &Write<'_>,
    live: Option<&Value>,
    config: &Value,
    force: bool,
) -> Result<Applied, Status> {
    check_type(types, config)?;
    let nothing;
    let live = match live {
        Some(live) => live,
        None => {
            nothing = new_object(types);
            &nothing
        }
    };
    let mut entries = entries::stored(Some(live));
    if entries.is_empty() {
        let first = Write { manager: BEFORE_FIRST_APPLY, ..*write };
        entries = track(types, &first, None, live, entries);
    }
    if config["metadata"].get("managedFields").is_some_and(|managed| !managed.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let findings = check::findings(types.schema, types.root, config, false);
    if !findings.is_empty() {
        let (what, why) = (named(config), check::told(&findings));
        return Err(Status::other(500, "", format!("failed to create typed patch object ({what}): {why}")));
    }
    reconcile::entries(types, &mut entries);
    let merged = Merge { types, write, live, config };
    // Only kubectl may get a second try.
    let again = (write.manager == KUBECTL && !force).then(|| entries.clone());
    let done = match (merged.run(entries, force), again) {
        (Err(conflicts), Some(entries)) => {
            let rest = last_applied::not_allowed(types, live, conflicts.clone()).unwrap_or(conflicts);
            if !rest.is_empty() {
                return Err(conflict::status(&rest));
            }
            merged.run(entries, true)
        }
        (done, _) => done,
    };
    let (object, entries) = done.map_err(|conflicts| conflict::status(&conflicts))?;
    let result = object.as_ref().unwrap_or(live);
    let last_applied =
        (write.manager == KUBECTL && last_applied::of(result).is_some()).then(|| last_applied::build(config));
    let managed = entries::into_list(entries);
    Ok(Applied { object, managed, last_applied })
}

/// What upstream's scheme makes of a kind before anything is set.
fn new_object(types: &Types<'_>) -> Value {
    let mut object = decode::zero(types.schema, &Ty::Object(types.root));
    if let Some(object) = object.as_object_mut() {
        object.insert("apiVersion".into(), types.api_version.into());
        object.insert("kind".into(), types.kind_name.into());
    }
    object
}

fn check_type(types: &Types<'_>, config: &Value) -> Result<(), Status> {
    let text = |field: &str| config.get(field).and_then(Value::as_str).unwrap_or_default();
    if text("apiVersion") == types.api_version && text("kind") == types.kind_name {
        return Ok(());
    }
    Err(Status::bad_request(format!("invalid object type: {}", type_of(config))))
}

/// `apps/v1, Kind=Deployment`.
fn type_of(object: &Value) -> String {
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    let api_version = text("apiVersion");
    let (group, version) =
        if api_version.matches('/').count() > 1 { ("", "") } else { group_version(api_version) };
    format!("{group}/{version}, Kind={}", text("kind"))
}

/// `default/web; apps/v1, Kind=Deployment`.
fn named(object: &Value) -> String {
    let text = |field: &str| object["metadata"].get(field).and_then(Value::as_str).unwrap_or_default();
    format!("{}/{}; {}", text("namespace"), text("name"), type_of(object))
}

/// A configuration on its way into an object.
struct Merge<'a> {
    types: &'a Types<'a>,
    write: &'a Write<'a>,
    live: &'a Value,
    config: &'a Value,
}

impl Merge<'_> {
    /// The new object, if it is another, and the new entries.
    fn run(
        &self,
        mut entries: Vec<Entry>,
        force: bool,
    ) -> Result<(Option<Value>, Vec<Entry>), Vec<Conflict>> {
        let types = self.types;
        let mut claimed = fields::of(types.schema, types.root, self.config);
        types.filter.apply(&mut claimed);
        let merged = without_managed(self.live);
        let mut merged = merge::merge(types.schema, types.root, merged, self.config);
        let mut own = Entry { time: String::new(), ..Entry::new(self.write, true, claimed) };
        if let Some(at) = entries.iter().position(|entry| entry.is_of(&own)) {
            let last = entries.swap_remove(at);
            own.time = last.time.clone();
            if last.api_version != own.api_version || !set::is_subset(&last.fields, &own.fields) {
                merged = self.prune(merged, &entries, &own, &last);
            }
        }
        let mut differences = Differences::new(types, self.live, &merged);
        if !force {
            let conflicts = conflicts(&mut differences, &entries);
            if !conflicts.is_empty() {
                return Err(conflicts);
            }
        }
        take(&mut differences, &mut entries);
        strip(&mut own.fields);
        let same = same(self.live, &merged);
        if !same {
            own.time = self.write.time.to_owned();
        }
        entries.push(own);
        Ok(((!same).then_some(merged), entries))
    }

    /// Takes out what the manager applied last time and now does not, unless somebody
    /// else owns it.
    fn prune(&self, merged: Value, others: &[Entry], own: &Entry, last: &Entry) -> Value {
        let types = self.types;
        let Some((schema, root)) = types.shape(&last.api_version) else { return merged };
        let (from, version) = (self.write.api_version, &*last.api_version);
        let Some(in_last) = types.convert(&merged, from, version).map(std::borrow::Cow::into_owned) else {
            return merged;
        };
        let ty = Ty::Object(root);
        let with_named = |ty: &Ty, id, fields: &Set| {
            set::with_named_fields(schema, super::shape::Place::root(ty, schema, id), fields)
        };
        let named_last = with_named(&ty, root, &last.fields);
        let mut pruned = in_last.clone();
        merge::remove(schema, root, &mut pruned, &named_last);
        let mut pruned_version = version.to_owned();
        let mut versions: Vec<&str> = vec![version];
        for entry in others.iter().chain([own]) {
            if !versions.contains(&&*entry.api_version) {
                versions.push(&entry.api_version);
            }
        }
        for managed_version in versions {
            let Some((schema, root)) = types.shape(managed_version) else { continue };
            let all = types.convert(&in_last, version, managed_version);
            let left = types.convert(&pruned, &pruned_version, managed_version);
            let (Some(all), Some(left)) = (all, left) else { continue };
            let mut owned = Set::new();
            for entry in others.iter().chain([own]).filter(|entry| entry.api_version == managed_version) {
                set::unite(&mut owned, entry.fields.clone());
            }
            let ty = Ty::Object(root);
            let place = super::shape::Place::root(&ty, schema, root);
            let named = |fields: &Set| set::with_named_fields(schema, place, fields);
            let mut gone = named(&fields::of(schema, root, &all));
            set::subtract(&mut gone, &named(&fields::of(schema, root, &left)));
            set::subtract(&mut gone, &named(&owned));
            let mut kept = all.into_owned();
            merge::remove(schema, root, &mut kept, &gone);
            (pruned, pruned_version) = (kept, managed_version.to_owned());
        }
        // Only what the manager itself had owned goes.
        let Some(left) = types.convert(&pruned, &pruned_version, version) else { return merged };
        let mut gone = with_named(&ty, root, &fields::of(schema, root, &in_last));
        set::subtract(&mut gone, &with_named(&ty, root, &fields::of(schema, root, &left)));
        let gone = set::common(&gone, &named_last);
        let mut kept = in_last;
        merge::remove(schema, root, &mut kept, &gone);
        types.convert(&kept, version, from).map_or(merged, std::borrow::Cow::into_owned)
    }
}

/// A copy of an object but for its managedFields, which are half of many an object.
pub fn without_managed(object: &Value) -> Value {
    let Some(fields) = object.as_object() else { return object.clone() };
    let copy = fields.iter().map(|(name, value)| match value {
        Value::Object(meta) if name == "metadata" => {
            let meta = meta.iter().filter(|(name, _)| *name != "managedFields");
            (name.clone(), meta.map(|(name, value)| (name.clone(), value.clone())).collect())
        }
        value => (name.clone(), value.clone()),
    });
    copy.collect()
}

/// Whether a merge changed nothing. (The merged object has no managedFields.)
fn same(live: &Value, merged: &Value) -> bool {
    let (Some(a), Some(b)) = (live.as_object(), merged.as_object()) else { return live == merged };
    a.len() == b.len()
        && a.iter().all(|(key, value)| match (key.as_str(), value, b.get(key)) {
            ("metadata", Value::Object(a), Some(Value::Object(b))) => {
                let a = a.iter().filter(|(key, _)| *key != "managedFields");
                a.clone().count() == b.len() && a.clone().all(|(key, value)| b.get(key) == Some(value))
            }
            (_, value, other) => other == Some(value),
        })
}

/// What differs between two objects, in the version of each manager that is asked for.
pub(super) struct Differences<'a> {
    types: &'a Types<'a>,
    old: &'a Value,
    new: &'a Value,
    known: Vec<(String, Option<Difference>)>,
}

impl<'a> Differences<'a> {
    /// Compares two objects of the write's version.
    pub fn new(types: &'a Types<'a>, old: &'a Value, new: &'a Value) -> Self {
        let difference = compare::objects(types.schema, types.root, old, new, types.filter);
        Self { types, old, new, known: vec![(types.api_version.to_owned(), Some(difference))] }
    }

    /// What was added or modified, in the write's own version.
    pub fn into_changed(mut self) -> Set {
        self.known.swap_remove(0).1.unwrap_or_default().changed
    }

    /// `None` for a version that is not served.
    fn of(&mut self, api_version: &str) -> Option<&Difference> {
        let at = match self.known.iter().position(|(known, _)| known == api_version) {
            Some(at) => at,
            None => {
                let difference = self.compare(api_version);
                self.known.push((api_version.to_owned(), difference));
                self.known.len() - 1
            }
        };
        self.known[at].1.as_ref()
    }

    fn compare(&self, api_version: &str) -> Option<Difference> {
        let (schema, root) = self.types.shape(api_version)?;
        let old = self.types.convert(self.old, self.types.api_version, api_version)?;
        let new = self.types.convert(self.new, self.types.api_version, api_version)?;
        Some(compare::objects(schema, root, &old, &new, self.types.filter))
    }
}

/// The fields that have other values now and are owned by others.
fn conflicts(differences: &mut Differences<'_>, entries: &[Entry]) -> Vec<Conflict> {
    let mut found: Vec<(&Entry, Set)> = Vec::new();
    for entry in entries {
        let Some(difference) = differences.of(&entry.api_version) else { continue };
        let fields = set::common(&entry.fields, &difference.changed);
        if !fields.is_empty() {
            found.push((entry, fields));
        }
    }
    found.sort_by_cached_key(|(entry, _)| entry.identifier());
    let mut conflicts = Vec::new();
    for (entry, fields) in found {
        conflict::of(entry, &fields, &mut conflicts);
    }
    conflicts
}

/// Takes from the managers what has changed or is gone. Those of versions that are not
/// served any more are forgotten.
pub(super) fn take(differences: &mut Differences<'_>, entries: &mut Vec<Entry>) {
    entries.retain_mut(|entry| {
        let Some(difference) = differences.of(&entry.api_version) else { return false };
        set::subtract(&mut entry.fields, &difference.changed);
        set::subtract(&mut entry.fields, &difference.removed);
        !entry.fields.is_empty()
    });
}
