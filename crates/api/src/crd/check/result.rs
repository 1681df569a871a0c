//! What a check has found, with kube-openapi's bookkeeping: how many checks a value
//! passed through decides which failed alternative is told about.

use serde_json::Value;

use crate::field::{Error, Errors, Kind, Path};

/// One finding.
#[derive(Debug, Clone)]
struct Found {
    /// Path from the root of the checked value; `None` for what names no field.
    name: Option<String>,
    kind: Kind,
    value: Value,
    /// The sentence by which findings are told apart, and which most of them say.
    message: String,
    /// What `field.Error` says instead, for the sorts that have words of their own.
    words: Option<String>,
}

/// Findings and the number of checks passed through.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcome {
    found: Vec<Found>,
    pub matched: usize,
}

impl Outcome {
    /// One check passed through.
    pub fn passed() -> Self {
        Self { matched: 1, found: Vec::new() }
    }

    pub fn is_valid(&self) -> bool {
        self.found.is_empty()
    }

    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Forgets what was found, not how many checks there were.
    pub fn forgive(&mut self) {
        self.found.clear();
    }

    pub fn merge(&mut self, other: Self) {
        self.matched += other.matched;
        other.found.into_iter().for_each(|found| self.add(found));
    }

    fn add(&mut self, found: Found) {
        if !self.found.iter().any(|known| known.message == found.message) {
            self.found.push(found);
        }
    }

    /// A sentence about no field in particular.
    pub fn plain(&mut self, message: String) {
        self.add(Found { name: None, kind: Kind::Invalid, value: "".into(), message, words: None });
    }

    pub fn invalid(&mut self, path: &str, value: Value, message: String) {
        self.one(Kind::Invalid, path, value, message, None);
    }

    pub fn wrong_type(&mut self, path: &str, value: Value, message: String) {
        self.one(Kind::TypeInvalid, path, value, message, None);
    }

    pub fn required(&mut self, path: &str) {
        let message = format!("{path} in body is required");
        self.one(Kind::Required, path, Value::Null, message, Some("Required value".into()));
    }

    pub fn too_many(&mut self, path: &str, actual: i64, most: i64, what: &str) {
        let message = format!("{path} in body should have at most {most} {what}");
        let words = format!("Too many: {actual}: must have at most {most} items");
        self.one(Kind::TooMany, path, Value::Null, message, Some(words));
    }

    pub fn too_long(&mut self, path: &str, most: i64) {
        let message = format!("{path} in body should be at most {most} chars long");
        let words = format!("Too long: may not be more than {most} bytes");
        self.one(Kind::TooLong, path, Value::Null, message, Some(words));
    }

    pub fn not_supported(&mut self, path: &str, value: &Value, allowed: &[Value]) {
        let message = format!("{path} in body should be one of {allowed:?}");
        let names = allowed.iter().map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        let names: Vec<String> = names.map(|name| format!("{name:?}")).collect();
        let root = Path::ROOT;
        let mut words = Error::not_supported(&root, value.clone(), &[""; 0]).message;
        words.push_str(&format!(": supported values: {}", names.join(", ")));
        self.one(Kind::NotSupported, path, value.clone(), message, Some(words));
    }

    fn one(&mut self, kind: Kind, path: &str, value: Value, message: String, words: Option<String>) {
        self.add(Found { name: Some(path.to_owned()), kind, value, message, words });
    }

    /// The findings as errors; those about no field are about `path`.
    pub fn append_to(self, path: &Path<'_>, errors: &mut Errors) {
        let base = path.to_string();
        for found in self.found {
            let name = found.name.as_deref().unwrap_or_default();
            let name = name.strip_prefix('.').unwrap_or(name);
            let place = match (base.is_empty(), name.is_empty()) {
                // Upstream prints a path that is none at all.
                (true, true) => "<nil>".to_owned(),
                (true, false) => name.to_owned(),
                (false, true) => base.clone(),
                (false, false) => format!("{base}.{name}"),
            };
            let root = Path::ROOT;
            let message = match found.words {
                Some(words) => words,
                None => Error::invalid(&root, found.value, &found.message).message,
            };
            errors.push(Error { kind: found.kind, path: place, message });
        }
    }
}
