//! The scale subresource: `autoscaling/v1` Scale over whatever has `spec.replicas`, or
//! over what a custom kind's definition names.

use carrack_api::crd::Scale as ScalePaths;
use carrack_api::managed::{self, Config, ReplicasPaths, Types};
use carrack_api::schema::{Schema, TypeId};
use carrack_api::status::Status;
use carrack_api::validation::custom::at;
use carrack_api::{Kind, Value, decode, field};
use serde_json::json;

use super::apply::check_duplicates;
use super::call::Call;
use super::patch::{PatchType, about, apply, strict};
use super::{Registry, Written, meta};
use crate::clock::rfc3339;

/// Makes a new Scale of the current one.
pub(crate) type ScaleChange<'a> = &'a mut (dyn FnMut(Value) -> Result<Value, Status> + Send);

impl Registry {
    /// The object's Scale.
    ///
    /// # Errors
    /// 404.
    pub async fn scale(&self, call: &Call) -> Result<Value, Status> {
        let record = self.get(call, None).await?;
        let object = self.in_version(call, &record)?;
        let places = Places::of(call);
        if let Some(path) = places.custom.filter(|_| places.replicas(&object).is_none()) {
            return Err(Status::internal(format!(
                "the spec replicas field {:?} does not exist",
                path.spec_path
            )));
        }
        Ok(places.scale(&object))
    }

    /// Changes the object's replicas through its Scale.
    pub(crate) async fn change_scale(&self, call: &Call, change: ScaleChange<'_>) -> Result<Value, Status> {
        let tracked = call.clone().tracked();
        let schema = carrack_api::facts::schema();
        let (types, time) = (scale_types(&schema)?, rfc3339(call.now));
        let (places, paths) = (Places::of(call), replicas_paths(&call.kind));
        let written: Written = self
            .change(&tracked, &mut |old| {
                let mut current = places.scale(old);
                meta::set(&mut current, "managedFields", managed::scale_to_subresource(old, &paths));
                let mut scale = change(current.clone())?;
                if !call.options.tracked {
                    managed::update(&types, &call.managed_write(SCALE, &time), Some(&current), &mut scale);
                }
                let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
                // A custom object's own rules judge its number.
                if replicas < 0 && places.custom.is_none() {
                    return Err(negative(call, replicas));
                }
                let mut new = old.clone();
                places.set(&mut new, replicas);
                for field in ["resourceVersion", "uid"] {
                    let given = meta::text(&scale, field).to_owned();
                    if !given.is_empty() {
                        meta::of(&mut new).insert(field.into(), given.into());
                    }
                }
                let owners = scale["metadata"].get("managedFields");
                let owners = managed::scale_to_parent(old, owners, &paths, &call.api_version());
                meta::set(&mut new, "managedFields", owners);
                Ok(new)
            })
            .await?;
        let mut object = self.in_version(call, &written.record)?;
        if call.options.dry_run {
            meta::of(&mut object).remove("resourceVersion");
        }
        Ok(places.scale(&object))
    }

    /// Patches the Scale; `root` is its type.
    pub(crate) async fn patch_scale(
        &self,
        call: &Call,
        root: TypeId,
        ty: PatchType,
        body: &[u8],
    ) -> Result<Value, Status> {
        let schema = carrack_api::facts::schema();
        if ty == PatchType::Apply {
            return self.apply_scale(call, root, body).await;
        }
        self.change_scale(call, &mut |scale| {
            let patched = apply(&schema, root, ty, body, scale).map_err(|error| about(&error))?;
            let decoded = patched.decode(&schema, root, strict(call))?;
            super::check_fields(call, decoded.strict)?;
            Ok(decoded.value)
        })
        .await
    }

    async fn apply_scale(&self, call: &Call, root: TypeId, body: &[u8]) -> Result<Value, Status> {
        let schema = carrack_api::facts::schema();
        let (types, time) = (scale_types(&schema)?, rfc3339(call.now));
        if self.store.get(&call.key()).is_none() {
            return Err(call.not_found());
        }
        let config = Config::read(body).map_err(|why| Status::bad_request(why.to_string()))?;
        self.change_scale(&call.clone().tracked(), &mut |current| {
            let write = call.managed_write(SCALE, &time);
            let applied = managed::apply(&types, &write, Some(&current), &config.object, call.options.force)?;
            check_duplicates(call, &config)?;
            let merged = applied.object.unwrap_or(current);
            let decoded = decode::value(&schema, root, merged)
                .map_err(|why| Status::other(500, "", why.to_string()))?;
            let mut scale = decoded.value;
            meta::set(&mut scale, "managedFields", applied.managed);
            Ok(scale)
        })
        .await
    }
}

/// apiVersion of Scale.
const SCALE: &str = "autoscaling/v1";

/// Where the objects of a kind have their replicas, by apiVersion.
fn replicas_paths(kind: &Kind) -> ReplicasPaths<'_> {
    let path = |index| match kind.facts(index) {
        None => vec!["spec", "replicas"],
        Some(facts) => facts.scale.iter().flat_map(|scale| ScalePaths::fields(&scale.spec_path)).collect(),
    };
    (0..kind.versions.len()).map(|index| (kind.api_version(index), path(index))).collect()
}

/// The type of Scale.
fn scale_types(schema: &Schema) -> Result<Types<'_>, Status> {
    let root = schema.find("io.k8s.api.autoscaling.v1.Scale");
    let root = root.ok_or_else(|| Status::internal("the facts lack Scale"))?;
    Ok(Types::alone(schema, root, SCALE, "Scale"))
}

/// Where an object keeps what its Scale shows.
#[derive(Clone, Copy)]
struct Places<'a> {
    custom: Option<&'a ScalePaths>,
}

impl<'a> Places<'a> {
    fn of(call: &'a Call) -> Self {
        Self { custom: call.kind.facts(call.version).and_then(|facts| facts.scale.as_ref()) }
    }

    fn replicas(self, object: &Value) -> Option<i64> {
        match self.custom {
            Some(paths) => at(object, &paths.spec_path)?.as_i64(),
            None => object["spec"]["replicas"].as_i64(),
        }
    }

    fn ready(self, object: &Value) -> Option<i64> {
        match self.custom {
            Some(paths) => at(object, &paths.status_path)?.as_i64(),
            None => object["status"]["replicas"].as_i64(),
        }
    }

    fn selector(self, object: &Value) -> String {
        match self.custom {
            Some(paths) => {
                let value = paths.selector_path.as_deref().and_then(|path| at(object, path));
                value.and_then(Value::as_str).unwrap_or_default().to_owned()
            }
            None => selector_text(&object["spec"]["selector"]),
        }
    }

    fn set(self, object: &mut Value, replicas: i64) {
        let path = self.custom.map_or(".spec.replicas", |paths| &*paths.spec_path);
        let mut place = object;
        for field in ScalePaths::fields(path) {
            if !place.is_object() {
                *place = json!({});
            }
            place = &mut place[field];
        }
        *place = replicas.into();
    }

    /// The Scale of an object.
    fn scale(self, object: &Value) -> Value {
        of(object, self.replicas(object), self.ready(object), self.selector(object))
    }
}

fn of(object: &Value, replicas: Option<i64>, ready: Option<i64>, selector: String) -> Value {
    let meta = &object["metadata"];
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {}, "spec": {}, "status": {"replicas": ready.unwrap_or(0)},
    });
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = meta.get(field) {
            scale["metadata"][field] = value.clone();
        }
    }
    if let Some(replicas) = replicas.filter(|replicas| *replicas != 0) {
        scale["spec"]["replicas"] = replicas.into();
    }
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    scale
}

/// A label selector (or a plain map of labels) as a query writes it.
fn selector_text(selector: &Value) -> String {
    let Some(top) = selector.as_object() else { return String::new() };
    let plain = !top.contains_key("matchLabels") && !top.contains_key("matchExpressions");
    let labels = if plain { Some(top) } else { top.get("matchLabels").and_then(Value::as_object) };
    let mut terms: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    for expression in top.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or_default();
        let mut values: Vec<&str> =
            expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        terms.push(match expression["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    terms.sort();
    terms.join(",")
}

fn negative(call: &Call, replicas: i64) -> Status {
    let path = field::Path::ROOT;
    let path = path.child("spec");
    let error =
        field::Error::invalid(&path.child("replicas"), replicas, "must be greater than or equal to 0");
    Status::invalid("autoscaling", "Scale", &call.name, &[error])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_read_as_queries() {
        let check =
            |selector: Value, expect: &str| assert_eq!(selector_text(&selector), expect, "{selector}");
        check(json!(null), "");
        check(json!({"app": "web", "a": "b"}), "a=b,app=web");
        check(json!({"matchLabels": {"app": "web"}}), "app=web");
        check(
            json!({"matchExpressions": [{"key": "k", "operator": "In", "values": ["b", "a"]},
                {"key": "n", "operator": "DoesNotExist"}]}),
            "!n,k in (a,b)",
        );
    }
}
