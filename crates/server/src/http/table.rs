//! Tables, the form in which `kubectl get` asks for objects.

use std::sync::Arc;

use carrack_api::status::Status;
use carrack_api::{Kind, Record, Revision, Value, columns};
use jiff::Timestamp;
use serde_json::json;

use super::accept::{Accept, Form};
use super::output::{View, write_metadata};
use crate::request::Query;

/// What of the object a row carries (`includeObject`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Include {
    /// Nothing.
    None,
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl Include {
    /// Reads `includeObject`, which only tables have.
    ///
    /// # Errors
    /// 400 for a word that is none of the three.
    pub(crate) fn read(query: &Query, accept: Accept) -> Result<Self, Status> {
        match query.text("includeObject") {
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            "" | "Metadata" => Ok(Self::Metadata),
            other if accept.form == Form::Table => Err(Status::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be \
                 'Metadata', 'Object', 'None', or empty"
            ))),
            _ => Ok(Self::Metadata),
        }
    }
}

/// One row, encoded.
pub(crate) fn row(
    accept: Accept,
    view: &View,
    record: &Record,
    revision: Revision,
    include: Include,
    now: Timestamp,
) -> Vec<u8> {
    let cells = columns::cells(&view.kind, view.version, &view.value(record), now);
    let mut out = b"{\"cells\":".to_vec();
    serde_json::to_writer(&mut out, &cells).expect("cells always encode");
    match include {
        Include::None => out.extend_from_slice(b",\"object\":null"),
        Include::Metadata => {
            out.extend_from_slice(b",\"object\":");
            write_metadata(&mut out, accept, view, record, revision);
        }
        Include::Object => {
            out.extend_from_slice(b",\"object\":");
            view.write(&mut out, record, revision, false);
        }
    }
    out.push(b'}');
    out
}

/// Puts the records of a table in the order in which it shows them: FlowSchemas by their
/// precedence, all others by their keys, as they come.
pub(crate) fn order(kind: &Kind, records: &mut [Arc<Record>]) {
    if &*kind.resource == "flowschemas.flowcontrol.apiserver.k8s.io" {
        records.sort_by_cached_key(|record| {
            let precedence = record.decode()["spec"]["matchingPrecedence"].as_i64().unwrap_or(0);
            (precedence, record.key.name().to_owned())
        });
    }
}

/// The whole table; a watch sends the column definitions only with the first event.
pub(crate) fn encode(
    accept: Accept,
    view: &View,
    meta: &Value,
    rows: &[Vec<u8>],
    definitions: bool,
) -> Vec<u8> {
    let columns: Value =
        if definitions { columns::definitions(&view.kind, view.version).into() } else { Value::Null };
    framed(accept, &columns, meta, rows)
}

fn framed(accept: Accept, columns: &Value, meta: &Value, rows: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!(
        "{{\"kind\":\"Table\",\"apiVersion\":\"{}\",\"metadata\":{meta},\
         \"columnDefinitions\":{columns},\"rows\":[",
        accept.meta_version()
    )
    .into_bytes();
    for (at, row) in rows.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(row);
    }
    out.extend_from_slice(b"]}");
    out
}

/// The table of a built-in kind's Scale.
pub(crate) fn of_scale(accept: Accept, scale: &Value, include: Include, now: Timestamp) -> Vec<u8> {
    let object = match include {
        Include::None => Value::Null,
        Include::Metadata => json!({"kind": "PartialObjectMetadata", "apiVersion": accept.meta_version(),
            "metadata": scale["metadata"]}),
        Include::Object => scale.clone(),
    };
    let row = json!({"cells": columns::scale_cells(scale, now), "object": object});
    let meta = json!({"resourceVersion": scale["metadata"]["resourceVersion"]});
    framed(accept, &columns::scale_definitions().into(), &meta, &[row.to_string().into_bytes()])
}
