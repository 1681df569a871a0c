//! The types of what is written, in every version in which a manager may have written it.

use std::borrow::Cow;

use serde_json::Value;

use super::reset::{self, Filter};
use crate::kind::{Kind, group_version};
use crate::schema::{Schema, TypeId};
use crate::{convert, decode};

/// What is written: a kind in one of its versions, or a body of its own such as Scale.
#[derive(Clone, Copy)]
pub struct Types<'a> {
    kind: Option<&'a Kind>,
    pub(super) schema: &'a Schema,
    pub(super) root: TypeId,
    pub(super) api_version: &'a str,
    pub(super) kind_name: &'a str,
    pub(super) filter: Filter,
    pub(super) custom: bool,
}

impl<'a> Types<'a> {
    /// An object of a kind, written in `version` (an index) whose apiVersion is
    /// `api_version`, through `subresource` or as a whole.
    pub fn of(kind: &'a Kind, version: usize, api_version: &'a str, subresource: &str) -> Self {
        let types = &kind.versions[version];
        Self {
            kind: Some(kind),
            schema: &types.schema,
            root: types.root,
            api_version,
            kind_name: &kind.kind,
            filter: reset::filter(kind, version, subresource),
            custom: kind.custom,
        }
    }

    /// A body that has but this version.
    pub fn alone(schema: &'a Schema, root: TypeId, api_version: &'a str, kind: &'a str) -> Self {
        let filter = Filter::NONE;
        Self { kind: None, schema, root, api_version, kind_name: kind, filter, custom: false }
    }

    /// The type in another version; `None` when that is not served.
    pub(super) fn shape(&self, api_version: &str) -> Option<(&'a Schema, TypeId)> {
        if api_version == self.api_version {
            return Some((self.schema, self.root));
        }
        let kind = self.kind?;
        let (group, name) = group_version(api_version);
        if group != &*kind.group {
            // Also if the same objects are served there (Event): upstream's typed values
            // are of one group.
            return None;
        }
        let version = kind.versions.iter().find(|version| &*version.name == name)?;
        Some((&version.schema, version.root))
    }

    /// An object of the version `from` in the version `to`; `None` when it has no such form.
    pub(super) fn convert<'o>(&self, object: &'o Value, from: &str, to: &str) -> Option<Cow<'o, Value>> {
        if from == to {
            return Some(Cow::Borrowed(object));
        }
        let kind = self.kind?;
        let mut object = object.clone();
        if kind.custom {
            object["apiVersion"] = to.into();
            return Some(Cow::Owned(object));
        }
        // What is merged but not decoded yet may have any form.
        let (schema, root) = self.shape(from)?;
        let mut object = decode::value(schema, root, object).ok()?.value;
        object["apiVersion"] = from.into();
        convert::convert(&kind.kind, to, object).ok().map(Cow::Owned)
    }
}
