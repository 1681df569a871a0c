//! The facts about built-in types: what fields there are, what they hold, and how
//! they merge. `facts.txt` is written by `cargo xtask facts` from the upstream
//! module and never by hand; it has no defaults beyond the published ones, no
//! rules and no descriptions.
//!
//! Its lines are
//!
//! ```text
//! = core.v1 io.k8s.api.core.v1 v1       a package: its short name, its full name, group and version
//! Pod + atomic                          a type; + when it is a kind of that group and version
//!  spec PodSpec 2 !                     a field: name, type, protobuf number, required
//!  ports []ContainerPort 1.6 …          the number inside the embedded message 1
//!  … @2                                 its place in Go's struct, where numbers do not tell it
//!  … omit | zero | null | go:T         what Go leaves of absent and zero values; its type's name
//!  … in:VolumeSource                   the Go structs that are inlined and hold the field
//!  … set | key:a,b | atomic | granular  list type set or map with its keys; atomic map or not
//!  … merge:name | merge | retain        strategic merge: key, or none; retainKeys
//!  … replace                            strategic merge: as a whole
//!  … enum:A|B~C ="A"                    allowed values, ~ for a space; published default
//! ```
//!
//! A type is a scalar's word, the name of a type of the same package, or one with
//! the short name of its package before it; `[]` and `{}` make lists and maps.

pub(crate) mod internal;

use std::sync::{Arc, LazyLock};

use crate::schema::{Field, ListType, Object, Presence, Schema, Ty, TypeId};

/// The arena of all built-in types, read once. About 570 types, some milliseconds.
pub fn schema() -> Arc<Schema> {
    static SCHEMA: LazyLock<Arc<Schema>> = LazyLock::new(|| Arc::new(read(include_str!("facts.txt"))));
    SCHEMA.clone()
}

/// A package line: the full name, and the group and version of its kinds.
struct Package<'a> {
    short: &'a str,
    full: &'a str,
    group: &'a str,
    version: &'a str,
}

fn read(text: &str) -> Schema {
    let packages: Vec<Package<'_>> = text.lines().filter_map(package).collect();
    let mut reader = Reader { schema: Schema::default(), packages, at: 0, open: None };
    for line in text.lines() {
        reader.line(line);
    }
    reader.close();
    keep_reset(&mut reader.schema);
    reader.schema
}

/// An empty list of managedFields is not an absent one: it resets them. (It is gone
/// before anything is stored.)
fn keep_reset(schema: &mut Schema) {
    let id = schema.find("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    let Some(id) = id else { return };
    let mut object = schema.object(id).clone();
    for field in object.fields.iter_mut().filter(|field| &*field.name == "managedFields") {
        field.presence = Presence::Given;
    }
    schema.define(id, object);
}

fn package(line: &str) -> Option<Package<'_>> {
    let mut words = line.strip_prefix("= ")?.split(' ');
    let (short, full) = (words.next()?, words.next()?);
    let (group, version) = crate::kind::group_version(words.next().unwrap_or_default());
    Some(Package { short, full, group, version })
}

struct Reader<'a> {
    schema: Schema,
    packages: Vec<Package<'a>>,
    /// Number of package lines seen.
    at: usize,
    /// The type whose fields are being read.
    open: Option<(TypeId, Object, Vec<Field>)>,
}

impl<'a> Reader<'a> {
    fn line(&mut self, line: &'a str) {
        if let Some(field) = line.strip_prefix(' ') {
            let field = self.field(field);
            let open = self.open.as_mut().expect("the table has a type before its fields");
            open.2.push(field);
            return;
        }
        self.close();
        if line.starts_with('=') {
            self.at += 1;
        } else if !line.starts_with('#') {
            let mut words = line.split(' ');
            let plain = words.next().unwrap_or_default();
            let package = &self.packages[self.at - 1];
            let mut object = Object { name: format!("{}.{plain}", package.full).into(), ..Object::default() };
            for word in words {
                match word {
                    "+" => {
                        let gvk = (package.group.into(), package.version.into(), plain.into());
                        object.group_version_kinds = [gvk].into();
                    }
                    "atomic" => object.atomic = true,
                    _ => unreachable!("unknown word {word:?} in the table of facts"),
                }
            }
            let id = self.schema.declare(&object.name);
            self.open = Some((id, object, Vec::new()));
        }
    }

    fn close(&mut self) {
        if let Some((id, mut object, fields)) = self.open.take() {
            object.fields = fields.into();
            self.schema.define(id, object);
        }
    }

    fn field(&mut self, line: &str) -> Field {
        // A default is JSON text that may contain spaces; it comes last.
        let (line, default) = line.split_once(" =").unwrap_or((line, ""));
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default();
        let ty = self.ty(words.next().unwrap_or_default());
        let mut field = Field { default: default.into(), ..Field::new(name, ty) };
        for word in words {
            fact(&mut field, word);
        }
        field
    }

    fn ty(&mut self, word: &str) -> Ty {
        if let Some(item) = word.strip_prefix("[]") {
            return Ty::List(Box::new(self.ty(item)));
        }
        if let Some(value) = word.strip_prefix("{}") {
            return Ty::Map(Box::new(self.ty(value)));
        }
        match word {
            "string" => Ty::String,
            "bytes" => Ty::Bytes,
            "int32" => Ty::Int32,
            "int64" => Ty::Int64,
            "float" => Ty::Float,
            "bool" => Ty::Bool,
            "quantity" => Ty::Quantity,
            "intstr" => Ty::IntOrString,
            "time" => Ty::Time,
            "microtime" => Ty::MicroTime,
            "any" => Ty::Any,
            name => Ty::Object(self.reference(name)),
        }
    }

    fn reference(&mut self, name: &str) -> TypeId {
        let (package, plain) = match name.rsplit_once('.') {
            Some((short, plain)) => (self.packages.iter().find(|package| package.short == short), plain),
            None => (self.packages.get(self.at - 1), name),
        };
        let package = package.expect("the table names the packages it refers to");
        self.schema.declare(&format!("{}.{plain}", package.full))
    }
}

fn fact(field: &mut Field, word: &str) {
    let list = |text: &str, by: char| text.split(by).map(Into::into).collect();
    match word.split_once(':') {
        Some(("key", keys)) => {
            field.list = ListType::Map;
            field.list_keys = list(keys, ',');
        }
        Some(("merge", key)) => {
            field.patch_merge = true;
            field.merge_key = key.into();
        }
        _ if word.starts_with('@') => {
            field.place = word[1..].parse().expect("a place is a number");
        }
        Some(("go", name)) => field.go_type = name.into(),
        Some(("in", names)) => field.inlined = names.into(),
        Some(("enum", values)) => field.allowed = list(&values.replace('~', " "), '|'),
        _ => match word {
            "!" => field.required = true,
            "omit" => field.presence = Presence::NonZero,
            "zero" => field.presence = Presence::Always,
            "null" => field.presence = Presence::Nullable,
            "set" => field.list = ListType::Set,
            "atomic" => field.atomic = true,
            "merge" => field.patch_merge = true,
            "granular" => field.granular = true,
            "replace" => field.patch_replace = true,
            "retain" => field.retain_keys = true,
            number => {
                let mut path: Vec<u32> =
                    number.split('.').map(|n| n.parse().expect("a fact is a word or a number")).collect();
                field.number = path.pop().unwrap_or_default();
                field.embedded = path.into();
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str) -> Object {
        let schema = schema();
        schema.object(schema.find(name).unwrap()).clone()
    }

    #[test]
    fn every_reference_is_defined() {
        let schema = schema();
        for (_, object) in schema.objects() {
            let empty = ["CustomResourceSubresourceStatus", "StorageVersionSpec"];
            let may_be_empty = empty.iter().any(|name| object.name.ends_with(name));
            assert!(!object.fields.is_empty() || may_be_empty, "{} has no fields", object.name);
        }
        let count = schema.objects().count();
        assert!((550..800).contains(&count), "{count} types");
    }

    #[test]
    fn reads_the_facts_of_a_field() {
        let container = object("io.k8s.api.core.v1.Container");
        let ports = container.field("ports").unwrap();
        assert_eq!((ports.number, &*ports.merge_key, ports.patch_merge), (6, "containerPort", true));
        assert_eq!(
            (ports.list, &*ports.list_keys),
            (ListType::Map, &["containerPort".into(), "protocol".into()][..])
        );
        assert!(container.field("name").unwrap().required);
        let port = object("io.k8s.api.core.v1.ContainerPort");
        let protocol = port.field("protocol").unwrap();
        assert_eq!((&*protocol.default, protocol.allowed.len()), ("\"TCP\"", 3));
        let request = object("io.k8s.api.certificates.v1.CertificateSigningRequestSpec");
        assert!(request.field("usages").unwrap().allowed.contains(&"server auth".into()));
        let deployment = object("io.k8s.api.apps.v1.DeploymentSpec");
        assert!(deployment.field("strategy").unwrap().retain_keys);
        let pod = object("io.k8s.api.core.v1.Pod");
        assert_eq!(*pod.group_version_kinds, [("".into(), "v1".into(), "Pod".into())]);
        assert_eq!(pod.field("apiVersion").unwrap().number, 0);
        assert!(object("io.k8s.api.core.v1.PodSpec").field("nodeSelector").unwrap().atomic);
        assert!(object("io.k8s.api.core.v1.NodeSelector").atomic);
    }

    #[test]
    fn finds_fields_of_embedded_messages() {
        let volume = object("io.k8s.api.core.v1.Volume");
        assert!(volume.embeds(&[2]) && !volume.embeds(&[1]));
        assert_eq!(volume.field_embedded(&[2], 2).map(|f| &*f.name), Some("emptyDir"));
        assert_eq!(volume.field_by_number(1).map(|f| &*f.name), Some("name"));
        let rules = object("io.k8s.api.admissionregistration.v1.NamedRuleWithOperations");
        assert_eq!(*rules.field("apiGroups").unwrap().embedded, [2, 2]);
    }
}
