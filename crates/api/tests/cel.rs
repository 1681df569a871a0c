//! What upstream's compiler says to expressions: recorded with the environment of
//! `matchConditions`, in which `object`, `oldObject`, `request`, `namespaceObject` and
//! `authorizer` are known.

use carrack_api::cel::{Environment, Type, compile};

const ENVIRONMENT: Environment<'_> = Environment {
    variables: &["object", "oldObject", "namespaceObject", "request", "authorizer"],
    types: &[],
};

/// Pairs of expressions and what upstream says.
const ANSWERS: &str = include_str!("answers/cel.json");

#[test]
fn expressions_are_judged_as_upstream_judges_them() {
    let answers: Vec<(String, String)> = serde_json::from_str(ANSWERS).expect("the answers are pairs");
    let mut wrong = Vec::new();
    for (source, theirs) in &answers {
        let ours = match compile(source, &ENVIRONMENT) {
            Ok(Type::Any | Type::Bool) => String::new(),
            Ok(other) => format!("must evaluate to bool but got {}", other.name()),
            Err(issues) => issues,
        };
        if ours != *theirs {
            wrong.push(format!("{source:?}\n  ours   {ours:?}\n  theirs {theirs:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), answers.len(), wrong.join("\n"));
}

#[test]
fn what_is_deep_or_long_is_refused_before_it_costs_anything() {
    let refused = |source: &str| compile(source, &ENVIRONMENT).is_err();
    let small = std::thread::Builder::new().stack_size(1 << 20);
    let done = small.spawn(move || {
        for open in ["(", "[", "{1:", "f(", "true ? 1 : ", "!(", "-(", "a["] {
            assert!(refused(&open.repeat(50_000)), "{open}");
            assert!(refused(&open.repeat(60)), "{open}");
        }
        for more in [".a", "[0]", " + 1", " == 1"] {
            assert!(refused(&format!("object{}", more.repeat(20_000))), "{more}");
        }
        assert!(refused(&"x".repeat(100_001)));
        assert!(refused(&"1 + ".repeat(20_000)));
        assert!(!refused(&format!("true{}", " && true".repeat(10_000))));
    });
    assert!(done.expect("a thread starts").join().is_ok());
}
