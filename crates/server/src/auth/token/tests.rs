//! `token-binding`: which tokens count, and when they stop.

use carrack_api::Content;
use serde_json::json;

use super::*;
use crate::auth::testing::{Stopped, delete, put, store};
use crate::registry::Call;

struct Cluster {
    store: Arc<dyn Store>,
    clock: Arc<Stopped>,
    tokens: Arc<Tokens>,
}

async fn cluster() -> Cluster {
    let (store, clock) = (store(), Stopped::at("2026-11-21T00:00:00Z"));
    put(&store, "serviceaccounts", &json!({"metadata": {"namespace": "a", "name": "s", "uid": "us"}})).await;
    put(&store, "nodes", &json!({"metadata": {"name": "n1", "uid": "un"}})).await;
    pod(&store, "up").await;
    let key = rcgen::KeyPair::generate().unwrap().serialize_der();
    let tokens = Tokens::new(TokenConfig::default(), &[key], store.clone(), clock.clone()).unwrap();
    Cluster { store, clock, tokens: Arc::new(tokens) }
}

async fn pod(store: &Arc<dyn Store>, uid: &str) {
    let pod = json!({
        "metadata": {"namespace": "a", "name": "p", "uid": uid},
        "spec": {"serviceAccountName": "s", "nodeName": "n1"},
    });
    put(store, "pods", &pod).await;
}

impl Cluster {
    fn request(&self, account: &str, body: Value) -> Result<Value, Status> {
        let kind = carrack_api::kinds::builtin().stored("serviceaccounts").unwrap().clone();
        let call = Call::internal(User::loopback(), kind, "a", account, self.clock.now()).on("token");
        let mut body = body;
        body["metadata"] = body.get("metadata").cloned().unwrap_or_else(|| json!({}));
        TokenRequest::new(self.tokens.clone()).issue(&call, body)
    }

    fn token(&self, spec: Value) -> String {
        let answer = self.request("s", json!({ "spec": spec })).unwrap();
        answer["status"]["token"].as_str().unwrap().to_owned()
    }

    fn check(&self, token: &str) -> Result<User, String> {
        self.tokens.verify(token, &[]).map(|(user, _)| user).map_err(|error| error.to_string())
    }
}

fn to_pod(seconds: i64) -> Value {
    json!({"expirationSeconds": seconds, "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "up"}})
}

const GONE: &str = "service account token has been invalidated";

#[tokio::test]
async fn says_whose_it_is() {
    let cluster = cluster().await;
    let user = cluster.check(&cluster.token(to_pod(600))).unwrap();
    assert_eq!((&*user.name, &*user.uid), ("system:serviceaccount:a:s", "us"));
    for group in ["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"] {
        assert!(user.in_group(group), "{group}");
    }
    let extra = |key: &str| user.extra.get(&*format!("authentication.kubernetes.io/{key}")).map(|v| &*v[0]);
    let found = (extra("pod-name"), extra("pod-uid"), extra("node-name"), extra("node-uid"));
    assert_eq!(found, (Some("p"), Some("up"), Some("n1"), Some("un")));
}

#[tokio::test]
async fn dies_with_what_it_is_bound_to() {
    let cluster = cluster().await;
    let (bound, free) = (cluster.token(to_pod(600)), cluster.token(json!({"expirationSeconds": 600})));
    assert!(cluster.check(&bound).is_ok() && cluster.check(&free).is_ok());
    // A pod of the same name is not the same pod.
    pod(&cluster.store, "other").await;
    assert!(cluster.check(&bound).is_err());
    delete(&cluster.store, "pods", "a", "p").await;
    assert_eq!(cluster.check(&bound), Err(GONE.into()));
    assert!(cluster.check(&free).is_ok());
    delete(&cluster.store, "serviceaccounts", "a", "s").await;
    assert_eq!(cluster.check(&free), Err(GONE.into()));
}

#[tokio::test]
async fn a_deleting_pod_keeps_its_token_for_a_minute() {
    let cluster = cluster().await;
    let token = cluster.token(to_pod(600));
    let object = json!({
        "metadata": {"namespace": "a", "name": "p", "uid": "up", "deletionTimestamp": "2026-11-21T00:00:00Z"},
    });
    assert!(Content::encode(&object, &[""; 0]).unwrap().header.deleting);
    put(&cluster.store, "pods", &object).await;
    cluster.clock.advance(30);
    assert!(cluster.check(&token).is_ok());
    cluster.clock.advance(60);
    assert_eq!(cluster.check(&token), Err(GONE.into()));
}

#[tokio::test]
async fn runs_out() {
    let cluster = cluster().await;
    let (short, projected) = (cluster.token(to_pod(600)), cluster.token(to_pod(3607)));
    cluster.clock.advance(600 + 59);
    assert!(cluster.check(&short).is_ok());
    cluster.clock.advance(2);
    assert_eq!(cluster.check(&short), Err("service account token has expired".into()));
    // What pods' volumes ask for lives a year, unless it is for someone else.
    cluster.clock.advance(3600);
    assert!(cluster.check(&projected).is_ok());
    let mut other = to_pod(3607);
    other["audiences"] = json!(["vault"]);
    let other = cluster.token(other);
    let vault = ["vault".to_owned()];
    assert!(cluster.tokens.verify(&other, &vault).is_ok());
    cluster.clock.advance(3607 + 61);
    assert!(cluster.tokens.verify(&other, &vault).is_err());
    cluster.clock.advance(-20_000);
    assert!(cluster.check(&projected).is_err(), "not yet valid");
}

#[tokio::test]
async fn is_for_its_audiences_only() {
    let cluster = cluster().await;
    let other = cluster.token(json!({"audiences": ["vault"]}));
    assert!(cluster.check(&other).unwrap_err().contains("is invalid for the target audiences"));
    let asked = ["x".to_owned(), "vault".to_owned()];
    assert_eq!(cluster.tokens.verify(&other, &asked).unwrap().1, ["vault"]);
    let own = cluster.token(json!({}));
    assert!(cluster.tokens.verify(&own, &asked).is_err());
    // Through the header: 401, and no word why.
    for (header, expect) in [
        (format!("Bearer {own}"), Some(200)),
        (format!("bearer  {own}"), Some(200)),
        (format!("Bearer {other}"), Some(401)),
        ("Bearer x".into(), Some(401)),
        ("Basic eDp5".into(), None),
    ] {
        let request = http::Request::builder().header("authorization", &header).body(()).unwrap();
        let (parts, ()) = request.into_parts();
        let answer = match cluster.tokens.authenticate(&parts, None).await {
            Ok(user) => user.map(|_| 200),
            Err(status) => Some(status.code),
        };
        assert_eq!(answer, expect, "{header}");
    }
}

#[tokio::test]
async fn refuses_bad_requests() {
    let cluster = cluster().await;
    let pod = |kind: &str, name: &str, uid: &str| json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name, "uid": uid}}});
    put(
        &cluster.store,
        "serviceaccounts",
        &json!({"metadata": {"namespace": "a", "name": "t", "uid": "ut"}}),
    )
    .await;
    for (account, body, code, message) in [
        ("x", json!({}), 404, r#"serviceaccounts "x" not found"#),
        (
            "s",
            json!({"spec": {"expirationSeconds": 599}}),
            422,
            "may not specify a duration less than 10 minutes",
        ),
        (
            "s",
            json!({"spec": {"expirationSeconds": 4294967297_i64}}),
            422,
            "may not specify a duration larger than 2^32 seconds",
        ),
        ("s", json!({"metadata": {"name": "t"}}), 422, "must match the service account name if specified"),
        ("s", json!({"metadata": {"uid": "old"}}), 409, "does not match the UID of the service account (us)"),
        ("s", pod("Pod", "q", ""), 404, r#"pods "q" not found"#),
        ("s", pod("Pod", "p", "old"), 409, "The object might have been deleted and then recreated"),
        (
            "t",
            pod("Pod", "p", "up"),
            400,
            "cannot bind token for serviceaccount \"t\" to pod running with different serviceaccount name.",
        ),
        ("s", pod("ConfigMap", "p", "up"), 400, "cannot bind token to object of type /v1, Kind=ConfigMap"),
    ] {
        let status = cluster.request(account, body.clone()).unwrap_err();
        assert_eq!(status.code, code, "{body}: {status}");
        assert!(status.message.contains(message), "{status}");
    }
}

#[tokio::test]
async fn remembers_a_bounded_number() {
    let mut seen = Seen::default();
    let claims = {
        let cluster = cluster().await;
        cluster.tokens.claims(&cluster.token(json!({}))).unwrap()
    };
    for number in 0..5000u32 {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&number.to_le_bytes());
        seen.insert(digest, claims.clone());
        assert!(seen.get(&digest).is_some());
    }
    assert!(seen.young.len() + seen.old.len() <= 2 * REMEMBERED);
}
