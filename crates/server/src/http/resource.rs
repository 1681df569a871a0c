//! Requests about resources: from path, query and body to one call on the registry,
//! and its outcome to an answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use carrack_api::Kind;
use carrack_api::status::Status;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use serde_json::json;

use super::accept::{self, Accept, Route};
use super::input::{self, Encoding};
use super::options;
use super::output::{self, View};
use super::pipeline::authorize;
use super::table::Include;
use super::{Body, State, subresource, watch};
use crate::registry::{
    Call, DeleteOptions, Deleted, Options, PatchType, Scope, Sent, Start, Warnings, check_fields, meta,
    no_such_resource, uncached,
};
use crate::request::{Attributes, RequestInfo, User};

/// What a handler works with.
pub(crate) struct Context<'a> {
    pub(crate) state: &'a State,
    pub(crate) parts: &'a Parts,
    pub(crate) info: &'a RequestInfo,
    pub(crate) body: Bytes,
    pub(crate) call: Call,
    pub(crate) view: View,
}

/// The kind that a request is about.
pub(crate) fn find(state: &State, info: &RequestInfo) -> Result<(Arc<Kind>, usize), Status> {
    let at = &info.attributes;
    let kinds = state.registry.kinds();
    let (kind, version) =
        kinds.resource(&at.group, &at.version, &at.resource).ok_or_else(no_such_resource)?;
    Ok((kind.clone(), version))
}

/// Answers a request about a resource.
pub(crate) async fn answer(
    state: &State,
    parts: &Parts,
    info: &RequestInfo,
    user: User,
    kind: Arc<Kind>,
    version: usize,
    body: Bytes,
) -> Result<Response<Body>, Status> {
    let at = &info.attributes;
    let call = Call {
        user,
        kind: kind.clone(),
        version,
        namespace: at.namespace.clone(),
        name: at.name.clone(),
        subresource: at.subresource.clone(),
        options: Options::default(),
        warnings: Warnings::default(),
        empties: Sent::default(),
        now: state.registry.now(),
    };
    let warnings = call.warnings.clone();
    let mut context = Context { state, parts, info, body, call, view: View::new(kind.clone(), version) };
    if let Some(warning) = context.call.kind.facts(version).and_then(|facts| facts.warning.as_deref()) {
        context.call.warnings.add(warning);
    }
    let response = match context.check_scope() {
        Ok(()) => {
            // What is not served says nothing.
            let served = at.subresource.is_empty() || kind.subresource(&at.subresource).is_some();
            if let Some(warning) = deprecated(&kind).filter(|_| served) {
                warnings.add(warning);
            }
            context.dispatch().await
        }
        Err(status) => Err(status),
    };
    if response.as_ref().is_err_and(accept::is_unrouted) {
        warnings.take();
    }
    let mut response = response.unwrap_or_else(|status| output::failure(&status));
    output::warn(&mut response, &warnings.take());
    Ok(response)
}

impl Context<'_> {
    /// Whether the path fits the kind: namespaced or not, the verb served or not.
    fn check_scope(&mut self) -> Result<(), Status> {
        let at = &self.info.attributes;
        let kind = &self.call.kind;
        if !kind.namespaced {
            if &*kind.resource == "namespaces" {
                // The path of one has its name there; there are none inside.
                if !at.namespace.is_empty() && at.namespace != at.name {
                    return Err(no_such_resource());
                }
                self.call.namespace = "".into();
            } else if !at.namespace.is_empty() {
                return Err(no_such_resource());
            }
        } else if at.namespace.is_empty() && !matches!(&*at.verb, "list" | "watch") {
            // All namespaces at once can only be listed and watched.
            let collection = at.name.is_empty() && at.subresource.is_empty();
            return Err(if collection { self.not_served() } else { no_such_resource() });
        }
        if self.parts.method == Method::HEAD || self.parts.method == Method::OPTIONS {
            return Err(self.not_served());
        }
        // A name of two segments is no name; and what cannot be named has no such paths.
        let named = ["get", "update", "patch", "delete"];
        let has_named = kind.verbs.iter().any(|verb| named.contains(&&**verb));
        if at.name.contains('/') || (!at.name.is_empty() && at.subresource.is_empty() && !has_named) {
            return Err(no_such_resource());
        }
        let served = match &*at.subresource {
            // Collections are made in and emptied, what is in them is changed and deleted.
            "" if at.name.is_empty() && matches!(&*at.verb, "update" | "patch") => false,
            "" if !at.name.is_empty() && &*at.verb == "create" => false,
            "" => kind.verbs.iter().any(|verb| **verb == *at.verb),
            name => {
                let sub =
                    kind.subresource_of(self.call.version, name).ok_or_else(|| self.no_subresource())?;
                sub.verbs.iter().any(|verb| **verb == *at.verb)
            }
        };
        if served { Ok(()) } else { Err(self.not_served()) }
    }

    /// 404 for a subresource that a kind does not have.
    fn no_subresource(&self) -> Status {
        if self.call.kind.definition.is_some() { self.call.not_found() } else { no_such_resource() }
    }

    fn not_served(&self) -> Status {
        let kind = &self.call.kind;
        if kind.definition.is_some() && !self.call.subresource.is_empty() {
            return Status::method_not_supported(&kind.group, &kind.plural, &self.info.attributes.verb);
        }
        Status::of_route(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    async fn dispatch(&mut self) -> Result<Response<Body>, Status> {
        if !self.call.subresource.is_empty() && subresource::differs(&self.call) {
            return subresource::answer(self).await;
        }
        match &*self.info.attributes.verb {
            "get" => self.get().await,
            "list" => self.list().await,
            "watch" => self.watch().await,
            "create" => self.create().await,
            "update" => self.update().await,
            "patch" => self.patch().await,
            "delete" => self.delete().await,
            "deletecollection" => self.delete_collection().await,
            _ => Err(self.not_served()),
        }
    }

    async fn get(&mut self) -> Result<Response<Body>, Status> {
        let accept = self.accept(Route::One)?;
        let said = if uncached(&self.call.kind) { "invalid resource version: " } else { "" };
        let at_least = options::revision(self.info.query.text("resourceVersion"), said)?;
        let record = self.state.registry.get(&self.call, at_least).await?;
        Ok(self.object(accept, &record, StatusCode::OK))
    }

    async fn list(&mut self) -> Result<Response<Body>, Status> {
        let accept = self.accept(Route::Many)?;
        let options = options::list(&self.info.query, &self.call.kind, self.version_name())?;
        self.call.name = "".into();
        let listed = self.state.registry.list(&self.call, &options).await?;
        let include = Include::read(&self.info.query, accept)?;
        Ok(output::list(accept, &self.view, listed, include, &self.state.registry))
    }

    async fn watch(&mut self) -> Result<Response<Body>, Status> {
        let accept = self.accept(Route::Many)?;
        if accept.encoding == super::accept::Encoding::Yaml {
            return Err(Accept::no_stream());
        }
        let query = &self.info.query;
        let asked = options::watch(query, &self.call.kind, self.version_name())?;
        let mut fields = asked.fields;
        if fields.is_none() && !self.call.name.is_empty() {
            // The old form /watch/…/{name}.
            let text = format!("metadata.name={}", self.call.name);
            fields = carrack_api::selector::Fields::parse(&text).ok();
        }
        let scope = Scope {
            kind: Some(self.call.kind.clone()),
            namespace: self.call.namespace.clone(),
            labels: asked.labels.filter(|labels| !labels.is_everything()),
            fields: fields.filter(|fields| !fields.is_everything()),
        };
        let (revision, initial) = (asked.revision, asked.initial);
        let start = match (revision, initial) {
            (Some(0), Some(false)) | (None, Some(false)) => {
                Start::After(self.state.registry.store().revision())
            }
            (None, _) => Start::Initial { fresh: true },
            (Some(0), _) => Start::Initial { fresh: false },
            (Some(revision), Some(true)) => {
                self.state.registry.fresh(Some(revision)).await?;
                Start::Initial { fresh: false }
            }
            (Some(revision), _) => Start::After(revision),
        };
        let watcher = match self.state.registry.watch(scope, start).await {
            Ok(watcher) => watcher,
            Err(status) if status.code == 410 => return Ok(watch::refuse(accept, &status)),
            Err(status) => return Err(status),
        };
        let config = &self.state.parts.config;
        let settings = watch::Settings {
            accept,
            view: self.view.clone(),
            include: Include::read(query, accept)?,
            bookmarks: asked.bookmarks,
            mark_initial_end: asked.bookmarks && initial == Some(true),
            closing: self.state.closing.subscribe(),
            counted: self.state.metrics.long_running(self.info),
            kinds: self.state.registry.kinds_changed(),
            interval: config.bookmark_interval,
            timeout: match asked.timeout {
                0 => spread(config.watch_timeout),
                seconds => Duration::from_secs(seconds),
            },
        };
        Ok(watch::answer(settings, self.state.registry.clone(), watcher))
    }

    async fn create(&mut self) -> Result<Response<Body>, Status> {
        let accept = self.accept(Route::One)?;
        self.read_options("CreateOptions")?;
        let object = self.decode()?;
        if !self.call.kind.stored() {
            return self.act(accept.no_table()?, object).await;
        }
        let written = self.state.registry.create_canonical(&self.call, object).await?;
        Ok(self.object(accept, &written.record, StatusCode::CREATED))
    }

    /// A resource that is not stored answers by acting.
    async fn act(
        &mut self,
        accept: Accept,
        mut object: carrack_api::Value,
    ) -> Result<Response<Body>, Status> {
        if &*self.call.kind.resource == "bindings" {
            return self.bind(accept, object).await;
        }
        let registry = &self.state.registry;
        registry.prepare_action(&self.call, &mut object)?;
        let action = registry.action(&self.call.kind.resource).ok_or_else(|| self.not_served())?;
        let answer = action.act(&self.call, registry, object).await?;
        Ok(output::value(accept, Some(&self.view), &answer, StatusCode::CREATED))
    }

    /// The old way to bind a pod: the binding's name is the pod's.
    async fn bind(&self, accept: Accept, mut binding: carrack_api::Value) -> Result<Response<Body>, Status> {
        meta::settle_namespace(&self.call, &mut binding)?;
        let kinds = self.state.registry.kinds();
        let (pods, version) = kinds.resource("", "v1", "pods").ok_or_else(no_such_resource)?;
        let name = binding["metadata"]["name"].as_str().unwrap_or_default().into();
        let (kind, subresource) = (pods.clone(), "binding".into());
        let call = Call { kind, version, name, subresource, ..self.call.clone() };
        self.state.registry.bind(&call, &binding).await?;
        Ok(output::success(accept, StatusCode::CREATED, carrack_api::Value::Null))
    }

    async fn update(&mut self) -> Result<Response<Body>, Status> {
        let accept = self.accept(Route::One)?;
        self.read_options("UpdateOptions")?;
        let object = self.decode()?;
        if self.state.registry.would_create(&self.call) {
            let create = Attributes { verb: "create".into(), ..self.info.attributes.clone() };
            authorize(self.state, &self.call.user, &create).await?;
            self.call.options.may_create = true;
        }
        let written = self.state.registry.update_canonical(&self.call, object).await?;
        let code = if written.created { StatusCode::CREATED } else { StatusCode::OK };
        Ok(self.object(accept, &written.record, code))
    }

    async fn patch(&mut self) -> Result<Response<Body>, Status> {
        let accept = self.accept(Route::One)?;
        let ty = patch_type(&self.parts.headers, self.call.kind.custom)?;
        self.read_patch_options(ty)?;
        let registry = &self.state.registry;
        if ty == PatchType::Apply && registry.would_apply_create(&self.call) {
            let create = Attributes { verb: "create".into(), ..self.info.attributes.clone() };
            authorize(self.state, &self.call.user, &create).await?;
            self.call.options.may_create = true;
        }
        let written = registry.patch(&self.call, ty, &self.body).await?;
        let code = if written.created { StatusCode::CREATED } else { StatusCode::OK };
        Ok(self.object(accept, &written.record, code))
    }

    async fn delete(&mut self) -> Result<Response<Body>, Status> {
        let accept = self.accept(Route::One)?;
        let (options, dry_run) = self.delete_options()?;
        self.call.options.dry_run = dry_run;
        self.warn_of_orphans(&options);
        let deleted = self.state.registry.delete(&self.call, &options).await?;
        Ok(self.deleted(accept, &options, &deleted))
    }

    /// A Job's pods stay unless its user says so, which users do not expect.
    fn warn_of_orphans(&self, options: &DeleteOptions) {
        let unsaid = options.propagation.is_none() && options.orphan.is_none();
        if &*self.call.kind.resource == "jobs.batch" && unsaid {
            self.call.warnings.add(ORPHANED_PODS);
        }
    }

    fn deleted(&self, accept: Accept, options: &DeleteOptions, deleted: &Deleted) -> Response<Body> {
        let waits = !deleted.gone && options.orphan == Some(false);
        let code = if waits { StatusCode::ACCEPTED } else { StatusCode::OK };
        if !deleted.gone || returns_deleted(&self.call.kind) {
            return self.object(accept, &deleted.record, code);
        }
        let kind = &self.call.kind;
        let mut details = json!({"name": &*self.call.name, "kind": &*kind.plural});
        if !kind.group.is_empty() {
            details["group"] = (&*kind.group).into();
        }
        details["uid"] = (&*deleted.record.header().uid).into();
        output::success(accept, code, details)
    }

    async fn delete_collection(&mut self) -> Result<Response<Body>, Status> {
        let accept = self.accept(Route::One)?;
        let list = options::list(&self.info.query, &self.call.kind, self.version_name())?;
        let (options, dry_run) = self.delete_options()?;
        self.call.options.dry_run = dry_run;
        self.call.name = "".into();
        self.warn_of_orphans(&options);
        let registry = &self.state.registry;
        let listed = registry.delete_collection(&self.call, &list, &options).await?;
        let include = Include::read(&self.info.query, accept)?;
        Ok(output::list(accept, &self.view, listed, include, registry))
    }

    /// Options of a deletion, and whether it is a dry run.
    fn delete_options(&self) -> Result<(DeleteOptions, bool), Status> {
        options::delete(&self.info.query, &self.parts.headers, &self.body, &self.view.api_version)
    }

    /// What the client accepts.
    pub(crate) fn accept(&self, route: Route) -> Result<Accept, Status> {
        Accept::read(&self.parts.headers, &self.info.query, route)
    }

    /// Reads the options of a write into the call.
    pub(crate) fn read_options(&mut self, kind: &str) -> Result<(), Status> {
        self.call.options = input::write_options(&self.info.query, &self.parts.headers, kind, None)?;
        Ok(())
    }

    /// Reads the options of a patch into the call.
    pub(crate) fn read_patch_options(&mut self, ty: PatchType) -> Result<(), Status> {
        let (query, headers) = (&self.info.query, &self.parts.headers);
        self.call.options = input::write_options(query, headers, "PatchOptions", Some(ty))?;
        Ok(())
    }

    /// The body as an object of the call's kind, with defaults.
    pub(crate) fn decode(&self) -> Result<carrack_api::Value, Status> {
        let encoding: Encoding = input::encoding(&self.parts.headers)?;
        let decoded = input::decode(&self.call.kind, self.call.version, encoding, &self.body)?;
        check_fields(&self.call, decoded.strict)?;
        Ok(self.state.registry.defaulted(&self.call, decoded.value, decoded.empties))
    }

    /// Answers a record.
    pub(crate) fn object(
        &self,
        accept: Accept,
        record: &carrack_api::Record,
        code: StatusCode,
    ) -> Response<Body> {
        match Include::read(&self.info.query, accept) {
            Ok(include) => output::object(accept, &self.view, record, code, include, &self.state.registry),
            Err(status) => output::failure(&status),
        }
    }

    fn version_name(&self) -> &str {
        &self.call.kind.versions[self.call.version].name
    }
}

/// The kind of patch that the media type names.
///
/// # Errors
/// 415.
pub(crate) fn patch_type(headers: &http::HeaderMap, custom: bool) -> Result<PatchType, Status> {
    match input::media_type(headers) {
        "application/json-patch+json" => Ok(PatchType::Json),
        "application/merge-patch+json" => Ok(PatchType::Merge),
        "application/strategic-merge-patch+json" if !custom => Ok(PatchType::Strategic),
        "application/apply-patch+yaml" => Ok(PatchType::Apply),
        _ if custom => Err(Status::unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: \
             application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
        )),
        _ => Err(Status::of_route(415, "UnsupportedMediaType", "415: Unsupported Media Type")),
    }
}

/// A time between `least` and twice that.
fn spread(least: Duration) -> Duration {
    let random = uuid::Uuid::new_v4().as_u128() as u32;
    least + least.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// What every request about a kind that is on its way out is told.
fn deprecated(kind: &Kind) -> Option<&'static str> {
    match &*kind.resource {
        "endpoints" => Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
        "componentstatuses" => Some("v1 ComponentStatus is deprecated in v1.19+"),
        _ => None,
    }
}

const ORPHANED_PODS: &str = "child pods are preserved by default when jobs are deleted; set \
propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";

/// Kinds that answer a deletion with the object instead of a Status.
fn returns_deleted(kind: &Kind) -> bool {
    matches!(
        &*kind.resource,
        "pods"
            | "services"
            | "namespaces"
            | "serviceaccounts"
            | "podtemplates"
            | "resourcequotas"
            | "persistentvolumes"
            | "persistentvolumeclaims"
    ) || matches!(&*kind.group, "storage.k8s.io" | "resource.k8s.io")
        && &*kind.resource != "csistoragecapacities.storage.k8s.io"
}
