//! One call on the registry: who does what to which object, and how.
//!
//! The HTTP edge makes one from a request; components inside the server make one
//! with [`Call::internal`]. A call carries its time, so that everything that one
//! write stamps agrees.

use std::sync::{Arc, Mutex, PoisonError};

use carrack_api::decode::Empties;
use carrack_api::status::Status;
use carrack_api::{Key, Kind, managed};
use jiff::Timestamp;

use crate::request::User;

/// One call on the registry.
#[derive(Debug, Clone)]
pub struct Call {
    /// On whose behalf.
    pub user: User,
    /// The kind.
    pub kind: Arc<Kind>,
    /// Index of the requested version in `kind.versions`.
    pub version: usize,
    /// Namespace; empty for cluster-scoped kinds and for all namespaces.
    pub namespace: Box<str>,
    /// Name; empty for collections and creations.
    pub name: Box<str>,
    /// Subresource; empty for the object itself.
    pub subresource: Box<str>,
    /// How.
    pub options: Options,
    /// What the user should know although the call succeeds.
    pub warnings: Warnings,
    /// What was sent empty, which only refusals show.
    pub(crate) empties: Sent,
    /// When.
    pub now: Timestamp,
}

/// Options of writes.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `dryRun=All`: do everything but commit.
    pub dry_run: bool,
    /// `fieldManager`, or what stands for it.
    pub field_manager: Box<str>,
    /// `fieldValidation`.
    pub field_validation: FieldValidation,
    /// Whether an update may create what is not there (for the kinds that allow it):
    /// the caller has been authorized to create.
    pub may_create: bool,
    /// Server-side apply: take over fields of other managers.
    pub force: bool,
    /// The object comes with the managedFields that it is to have.
    pub(crate) tracked: bool,
}

/// What happens to unknown and duplicate fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// Dropped in silence.
    Ignore,
    /// Dropped with a Warning header.
    #[default]
    Warn,
    /// 400.
    Strict,
}

/// Warnings gathered on the way; sent as `Warning: 299` headers.
#[derive(Debug, Clone, Default)]
pub struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Adds one, unless it is already there.
    pub fn add(&self, text: impl Into<String>) {
        let text = text.into();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains(&text) {
            all.push(text);
        }
    }

    /// Takes all of them.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The empty lists and maps of the body that was decoded last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sent(Arc<Mutex<Empties>>);

impl Sent {
    /// Remembers those of a body.
    pub(crate) fn set(&self, empties: Empties) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = empties;
    }

    /// The object with them, if it lacks any.
    pub(crate) fn put_back(&self, object: &carrack_api::Value) -> Option<carrack_api::Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put_back(object)
    }
}

impl Call {
    /// A call by machinery inside the server, on the object itself.
    pub fn internal(user: User, kind: Arc<Kind>, namespace: &str, name: &str, now: Timestamp) -> Self {
        Self {
            user,
            version: kind.storage,
            kind,
            namespace: namespace.into(),
            name: name.into(),
            subresource: "".into(),
            options: Options { field_manager: "carrack".into(), may_create: true, ..Options::default() },
            warnings: Warnings::default(),
            empties: Sent::default(),
            now,
        }
    }

    /// The same call on a subresource.
    pub fn on(mut self, subresource: &str) -> Self {
        self.subresource = subresource.into();
        self
    }

    /// The same call, of which the object comes with its managedFields.
    pub(crate) fn tracked(mut self) -> Self {
        self.options.tracked = true;
        self
    }

    /// The store key of the named object.
    pub fn key(&self) -> Key {
        Key::new(&self.kind.resource, &self.namespace, &self.name)
    }

    /// `v1`, `apps/v1`: the requested version.
    pub fn api_version(&self) -> String {
        self.kind.api_version(self.version)
    }

    /// What managedFields are to say of the call.
    pub(crate) fn managed_write<'a>(&'a self, api_version: &'a str, time: &'a str) -> managed::Write<'a> {
        let manager = &self.options.field_manager;
        managed::Write { manager, api_version, time, subresource: &self.subresource }
    }

    /// 404 for the named object.
    pub fn not_found(&self) -> Status {
        // (One kind's registry says its own name in the singular.)
        let said = match &*self.kind.resource {
            "componentstatuses" => "componentstatus",
            _ => &*self.kind.plural,
        };
        Status::not_found(&self.kind.group, said, &self.name)
    }

    /// 409 for a stale resourceVersion.
    pub fn modified(&self) -> Status {
        Status::modified(&self.kind.group, &self.kind.plural, &self.name)
    }

    /// 403 with a detail.
    pub fn forbidden(&self, detail: &str) -> Status {
        Status::forbidden(&self.kind.group, &self.kind.plural, &self.name, detail)
    }
}
