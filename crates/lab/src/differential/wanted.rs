//! Differences that are wanted, each with its reason: at most twenty, each naming exactly
//! the class and the mechanism that it excuses, and the case, row or path where only that asks for it.

use super::case::Case;
use super::compare::Difference;

/// Case, its row or the path that it asks for (empty for all), class, mechanism, reason.
const WANTED: &[(&str, &str, &str, &str)] = &[
    ("", "object", "columnDefinitions[*].description differs", PROSE),
    ("", "code", "400 instead of 500: strconv.ParseUint: parsing \"…\": invalid syntax", MISTAKE),
    (
        "",
        "code",
        "400 instead of 500: resourceVersion: Invalid value: \"…\": strconv.ParseUint: parsing \"…\": invalid syntax",
        MISTAKE,
    ),
    (
        "",
        "object",
        "metadata.resourceVersion is missing",
        "nothing was stored, so there is no revision to show",
    ),
    ("", "warning", "too many: x-kubernetes-validations are stored and not evaluated yet", LATER),
    ("/version", "object", "compiler differs", BUILD),
    ("/version", "object", "gitCommit differs", BUILD),
    ("/version", "object", "gitTreeState differs", BUILD),
    ("/version", "object", "gitVersion differs", BUILD),
    ("/version", "object", "goVersion differs", BUILD),
    (BINDINGS, "object", "items has another length", OWN_BINDING),
    (BINDINGS, "managedFields", " has another length", OWN_BINDING),
    (
        "/api/v1/namespaces/d-services/services/absent/status",
        "refused, accepted there",
        "RESOURCE \"…\" not found",
        "upstream makes a Service out of a write of its status alone, past the rights to create one",
    ),
    (
        "with nobody there (1)",
        "code",
        "500 instead of 400: lookup node-# on #.#.#.#:#: no such host",
        "nodes are reached by their addresses, as kubeadm has it, and not by names that may resolve nowhere",
    ),
    ("as protobuf or JSON", "header", JSON_FIRST, "both are taken alike, and JSON is there already"),
    ("as protobuf or JSON", "layout", "one line, newline instead of ", "it is JSON then"),
    ("", "code", "403 instead of 500: invalid resource name \"…\": [may not contain '/']", MISTAKE),
    ("", "code", "403 instead of 500: resource name may not be empty", MISTAKE),
    ("v1 replicationcontrollers", "warning", "warning: null", SWAPPED),
    ("", "managedFields", "f:downwardAPI.f:items is too much", UNTOUCHED),
];

const PROSE: &str = "what upstream's descriptions say is prose of its own, and no program reads it";
const MISTAKE: &str = "the mistake is the client's, and nothing broke in the server";
const SWAPPED: &str =
    "upstream warns of the template that was and not of the one that comes: it takes one for the other";
const UNTOUCHED: &str = "upstream compares items of volumes as they lie in memory, where a divisor that nobody \
     gave differs from the stored 0: who sends a pod again takes over what did not change";
const LATER: &str = "whoever writes rules has to know that nothing evaluates them until that is there";
const BUILD: &str = "says who built the server and when";
const BINDINGS: &str = "what is there from the start: clusterrolebindings.rbac.authorization.k8s.io";
const OWN_BINDING: &str = "the server may do on nodes what a binding of its own says, instead of everything";
const JSON_FIRST: &str =
    "content-type: [\"application/json\"] instead of [\"application/vnd.kubernetes.protobuf\"]";

/// How many there may be.
pub const MOST: usize = 20;

/// Whether a difference is one of those wanted.
pub fn is(case: &Case, difference: &Difference) -> bool {
    WANTED.iter().any(|(title, class, about, _)| {
        let asked = case.steps.last().map_or("", |step| &step.request.path);
        (title.is_empty()
            || [&*case.title, &*case.row, asked].iter().any(|at| *title == at.trim_end_matches('/')))
            && *class == difference.class
            && *about == difference.about
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_stays_short_and_says_why() {
        assert!(WANTED.len() <= MOST);
        for (_, class, about, why) in WANTED {
            assert!(!class.is_empty() && !about.is_empty() && !why.is_empty());
        }
    }
}
