//! Subresources whose bodies are not the object itself: scale, binding, eviction,
//! token, and the streaming ones that a node answers.

use carrack_api::schema::TypeId;
use carrack_api::status::Status;
use carrack_api::{Value, defaults, managed};
use http::{Response, StatusCode};

use super::accept::{Form, Route};
use super::resource::{Context, patch_type};
use super::table::{self, Include};
use super::{Body, input, output};
use crate::registry::{Call, DeleteOptions, check_fields, meta, no_such_resource};

/// Whether the call's subresource has a body of its own kind.
pub(crate) fn differs(call: &Call) -> bool {
    call.kind.subresource(&call.subresource).is_some_and(|sub| sub.kind != call.kind.kind)
}

/// Answers a request about such a subresource.
pub(crate) async fn answer(context: &mut Context<'_>) -> Result<Response<Body>, Status> {
    match &*context.call.subresource {
        "scale" => scale(context).await,
        "binding" => binding(context).await,
        "eviction" => eviction(context).await,
        _ => act(context).await,
    }
}

/// The type of the subresource's bodies, with its apiVersion and kind.
fn body_type(context: &Context<'_>) -> Result<(TypeId, String, String, String), Status> {
    let call = &context.call;
    let sub = call.kind.subresource_of(call.version, &call.subresource).ok_or_else(no_such_resource)?;
    let schema = carrack_api::facts::schema();
    let is =
        |(g, v, k): &(Box<str>, Box<str>, Box<str>)| *g == sub.group && *v == sub.version && *k == sub.kind;
    let root = schema.objects().find(|(_, object)| object.group_version_kinds.iter().any(is));
    let (root, _) = root.ok_or_else(|| Status::internal(format!("the facts lack {}", sub.kind)))?;
    let api_version = carrack_api::kind::api_version(&sub.group, &sub.version);
    Ok((root, api_version, sub.kind.to_string(), sub.version.to_string()))
}

/// The body as the subresource's own kind.
fn body(context: &Context<'_>) -> Result<Value, Status> {
    let (root, api_version, kind, version) = body_type(context)?;
    let encoding = input::encoding(&context.parts.headers)?;
    let schema = carrack_api::facts::schema();
    let decoded = input::decode_as(&schema, root, (&api_version, &kind, &version), encoding, &context.body)?;
    check_fields(&context.call, decoded.strict)?;
    let mut value = decoded.value;
    value["apiVersion"] = api_version.into();
    value["kind"] = kind.into();
    Ok(value)
}

async fn scale(context: &mut Context<'_>) -> Result<Response<Body>, Status> {
    let accept = context.accept(Route::One)?;
    let registry = &context.state.registry;
    let scale = match &*context.info.attributes.verb {
        "get" => registry.scale(&context.call).await?,
        "update" => {
            context.read_options("UpdateOptions")?;
            let scale = body(context)?;
            meta::check_name(&context.call, &scale)?;
            let change = &mut |current: Value| {
                let uid = meta::text(&current, "uid");
                meta::check_uid(&context.call, &scale, uid)?;
                Ok(scale.clone())
            };
            registry.change_scale(&context.call, change).await?
        }
        _ => {
            let ty = patch_type(&context.parts.headers, context.call.kind.custom)?;
            context.read_patch_options(ty)?;
            let (root, ..) = body_type(context)?;
            let patch = context.body.clone();
            registry.patch_scale(&context.call, root, ty, &patch).await?
        }
    };
    if accept.form == Form::Table && context.call.kind.definition.is_none() {
        let include = Include::read(&context.info.query, accept)?;
        let table = table::of_scale(accept, &scale, include, context.call.now);
        return Ok(output::written(accept, StatusCode::OK, table));
    }
    Ok(output::typed(accept, &scale, StatusCode::OK))
}

async fn binding(context: &mut Context<'_>) -> Result<Response<Body>, Status> {
    let accept = context.accept(Route::One)?;
    context.read_options("CreateOptions")?;
    let binding = body(context)?;
    context.state.registry.bind(&context.call, &binding).await?;
    Ok(output::success(accept, StatusCode::CREATED, Value::Null))
}

async fn eviction(context: &mut Context<'_>) -> Result<Response<Body>, Status> {
    let accept = context.accept(Route::One)?;
    context.read_options("CreateOptions")?;
    let eviction = body(context)?;
    if eviction["metadata"]["name"].as_str().unwrap_or_default() != &*context.call.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let asked = &eviction["deleteOptions"];
    let text = |value: &Value| value.as_str().map(Box::from);
    let options = DeleteOptions {
        grace: asked["gracePeriodSeconds"].as_i64(),
        uid: text(&asked["preconditions"]["uid"]),
        resource_version: text(&asked["preconditions"]["resourceVersion"]),
        ..DeleteOptions::default()
    };
    if asked["dryRun"].as_array().is_some_and(|values| !values.is_empty()) {
        context.call.options.dry_run = true;
    }
    context.state.registry.evict(&context.call, &options).await?;
    Ok(output::success(accept, StatusCode::CREATED, Value::Null))
}

/// A subresource that is answered by an action (`serviceaccounts/token`).
async fn act(context: &mut Context<'_>) -> Result<Response<Body>, Status> {
    let accept = context.accept(Route::One)?;
    let call = &context.call;
    let name = format!("{}/{}", call.kind.resource, call.subresource);
    let registry = &context.state.registry;
    let action = registry.action(&name).cloned().ok_or_else(no_such_resource)?;
    context.read_options("CreateOptions")?;
    let mut body = body(context)?;
    let (root, api_version, kind, _) = body_type(context)?;
    let schema = carrack_api::facts::schema();
    let types = managed::Types::alone(&schema, root, &api_version, &kind);
    defaults::default_type(root, &mut body);
    registry.manage_body(&context.call, &types, &api_version, &mut body);
    let answer = action.act(&context.call, registry, body).await?;
    Ok(output::typed(accept, &answer, StatusCode::CREATED))
}
