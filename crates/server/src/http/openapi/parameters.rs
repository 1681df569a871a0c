//! The query parameters of operations, and the names under which Swagger 2.0 shares them.
//!
//! Upstream's shared names end in a digest over the parameter's JSON, its description
//! among it (`kube-openapi/pkg/builder/parameters.go`). Those descriptions are prose of its
//! own, so the digests stand here instead of being worked out.

/// A parameter, its type, and the ending of its shared name; empty for one that each
/// operation has for itself.
pub(super) type Parameter = (&'static str, &'static str, &'static str);

const ALLOW_BOOKMARKS: Parameter = ("allowWatchBookmarks", "boolean", "HC2hJt-J");
const CONTINUE: Parameter = ("continue", "string", "QfD61s0i");
const FIELD_SELECTOR: Parameter = ("fieldSelector", "string", "xIcQKXFG");
const IGNORE_READ_ERRORS: Parameter =
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean", "QbNkfIqj");
const LABEL_SELECTOR: Parameter = ("labelSelector", "string", "5Zw57w4C");
const LIMIT: Parameter = ("limit", "integer", "1NfNmdNH");
const PRETTY: Parameter = ("pretty", "string", "tJGM1-ng");
const RESOURCE_VERSION: Parameter = ("resourceVersion", "string", "5WAnf1kx");
const VERSION_MATCH: Parameter = ("resourceVersionMatch", "string", "t8XhRHeC");
const INITIAL_EVENTS: Parameter = ("sendInitialEvents", "boolean", "rLXlEK_k");
const SHARD_SELECTOR: Parameter = ("shardSelector", "string", "Kgyki_3_");
const TIMEOUT: Parameter = ("timeoutSeconds", "integer", "yvYezaOC");
const WATCH: Parameter = ("watch", "boolean", "XNNPZGbK");
const GRACE: Parameter = ("gracePeriodSeconds", "integer", "-K5HaBOS");
const ORPHAN: Parameter = ("orphanDependents", "boolean", "uRB25kX5");
const PROPAGATION: Parameter = ("propagationPolicy", "string", "6jk3prlO");
// Never shared: old clients look for these two in the operation itself.
const DRY_RUN: Parameter = ("dryRun", "string", "");
const FIELD_VALIDATION: Parameter = ("fieldValidation", "string", "");

const GET: &[Parameter] = &[PRETTY];
const CUSTOM_GET: &[Parameter] = &[PRETTY, RESOURCE_VERSION];
const LIST: &[Parameter] = &[
    ALLOW_BOOKMARKS,
    CONTINUE,
    FIELD_SELECTOR,
    LABEL_SELECTOR,
    LIMIT,
    PRETTY,
    RESOURCE_VERSION,
    VERSION_MATCH,
    INITIAL_EVENTS,
    SHARD_SELECTOR,
    TIMEOUT,
    WATCH,
];
const WRITE: &[Parameter] = &[DRY_RUN, ("fieldManager", "string", "Qy4HdaTW"), FIELD_VALIDATION, PRETTY];
const PATCH: &[Parameter] = &[
    DRY_RUN,
    ("fieldManager", "string", "7c6nTn1T"),
    FIELD_VALIDATION,
    ("force", "boolean", "tOGGb0Yi"),
    PRETTY,
];
const DELETE: &[Parameter] = &[DRY_RUN, GRACE, IGNORE_READ_ERRORS, ORPHAN, PROPAGATION, PRETTY];
const DELETE_COLLECTION: &[Parameter] = &[
    CONTINUE,
    DRY_RUN,
    FIELD_SELECTOR,
    GRACE,
    IGNORE_READ_ERRORS,
    LABEL_SELECTOR,
    LIMIT,
    ORPHAN,
    PRETTY,
    PROPAGATION,
    RESOURCE_VERSION,
    VERSION_MATCH,
    INITIAL_EVENTS,
    SHARD_SELECTOR,
    TIMEOUT,
];
const EXEC: &[Parameter] = &[
    ("command", "string", "Py3eQybp"),
    ("container", "string", "i5dOmRiM"),
    ("stderr", "boolean", "W_1TNlWc"),
    ("stdin", "boolean", "PSzNhyUC"),
    ("stdout", "boolean", "-EZLRwV1"),
    ("tty", "boolean", "s0flW37O"),
];
const ATTACH: &[Parameter] = &[
    ("container", "string", "_Q-EJ3nR"),
    ("stderr", "boolean", "26jJhFUR"),
    ("stdin", "boolean", "sEFnN3IS"),
    ("stdout", "boolean", "005YMKE6"),
    ("tty", "boolean", "g7MlET_l"),
];

/// What the log of a pod is asked with.
pub(super) const LOG: &[Parameter] = &[
    ("container", "string", "1GeXxFDC"),
    ("follow", "boolean", "9OIXh_2R"),
    ("insecureSkipTLSVerifyBackend", "boolean", "gM00jVbe"),
    ("limitBytes", "integer", "zwd1RXuc"),
    PRETTY,
    ("previous", "boolean", "1jxDPu3y"),
    ("sinceSeconds", "integer", "vE2NLdnP"),
    ("stream", "string", "l-48cgXv"),
    ("tailLines", "integer", "9xQLWHMV"),
    ("timestamps", "boolean", "c17fW1w_"),
];

/// What a verb is asked with, of a kind of the house or a custom one.
pub(super) fn of_verb(verb: &str, custom: bool) -> &'static [Parameter] {
    match verb {
        "list" | "watch" | "watchlist" => LIST,
        "create" | "update" => WRITE,
        "patch" => PATCH,
        "delete" => DELETE,
        // Published as if it listed.
        "deletecollection" if custom => LIST,
        "deletecollection" => DELETE_COLLECTION,
        _ if custom => CUSTOM_GET,
        _ => GET,
    }
}

/// What a connection to a kind's subresource is asked with.
pub(super) fn of_connection(subresource: &str, kind: &str) -> &'static [Parameter] {
    match (subresource, kind) {
        ("exec", _) => EXEC,
        ("attach", _) => ATTACH,
        ("portforward", _) => &[("ports", "integer", "91KROJmm")],
        (_, "Node") => &[("path", "string", "rFDtV0x9")],
        (_, "Pod") => &[("path", "string", "oPbzgLUj")],
        _ => &[("path", "string", "QCf0eosM")],
    }
}

/// The ending of the shared name of a part of the path, or of a body of a type that is no
/// kind's own; empty when there is none.
pub(super) fn of_place(name: &str) -> &'static str {
    match name {
        "namespace" => "vgWSWtn3",
        "path" => "z6Ciiujn",
        "DeleteOptions" => "2Y1dVQaQ",
        "Patch" => "78PwaGsr",
        _ => "",
    }
}
