//! A server as it is wired in production, asked by all sorts of people: certificates,
//! tokens, roles, impersonation. Covers `scope-confusion` (CVE-2019-11247) and the ways
//! in of `token-binding`.
#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use carrack_server::allocate::{Ranges, Services};
use carrack_server::auth::impersonate::Impersonation;
use carrack_server::auth::token::{TokenConfig, Tokens};
use carrack_server::auth::{Anonymous, Authorizers, CertificateAuthenticator, reviews};
use carrack_server::bootstrap::{BootstrapConfig, Progress, bootstrap, bootstrap_roles};
use carrack_server::pki::{Names, Pki};
use carrack_server::quota::Ledger;
use carrack_server::{PeerCertificates, Server, SystemClock, User, admission};
use carrack_store::{Limits, Local, Store};
use common::Client;
use http_body_util::BodyExt;
use jiff::Timestamp;
use serde_json::{Value, json};
use tower_service::Service;

const JSON: (&str, &str) = ("content-type", "application/json");
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

struct Cluster {
    server: Server,
    pki: Pki,
    _dir: tempfile::TempDir,
}

/// Who asks.
enum As<'a> {
    Nobody,
    Admin,
    Certificate(&'a str, &'a str),
    Token(&'a str),
}

async fn cluster() -> Cluster {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open_or_create(dir.path(), Names::default(), Timestamp::now()).unwrap();
    let store: Arc<dyn Store> = Arc::new(Local::memory(Limits::default()));
    let clock = Arc::new(SystemClock);
    let tokens = Tokens::new(TokenConfig::default(), pki.token_keys(), store.clone(), clock).unwrap();
    let (tokens, authorizers) = (Arc::new(tokens), Arc::new(Authorizers::new(store.clone())));
    let mut builder = Server::builder(store.clone(), carrack_api::kinds::builtin())
        .authenticator(Arc::new(CertificateAuthenticator))
        .authenticator(Arc::new(tokens.bootstrap_tokens()))
        .authenticator(tokens.clone())
        .issuer(&tokens)
        .authenticator(Arc::new(Anonymous))
        .impersonator(Arc::new(Impersonation::new(authorizers.clone())))
        .authorizer(authorizers.clone())
        .strategy("services", Arc::new(Services::new(store.clone(), Ranges::default())));
    for (resource, action) in reviews::actions(&authorizers, &tokens) {
        builder = builder.action(resource, action);
    }
    for plugin in admission::plugins(&store, &authorizers, &Ledger::new(store.clone())) {
        builder = builder.admission(plugin);
    }
    let cluster = Cluster { server: builder.build(), pki, _dir: dir };
    let config = BootstrapConfig {
        ranges: Ranges::default(),
        advertise: vec![],
        port: 6443,
        client_ca: String::new(),
    };
    bootstrap(cluster.server.registry(), &config, &Progress::default()).await.unwrap();
    bootstrap_roles(cluster.server.registry(), &Progress::default()).await.unwrap();
    for namespace in ["a", "b"] {
        cluster.make("/api/v1/namespaces", json!({"metadata": {"name": namespace}})).await;
        let accounts = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        cluster.make(&accounts, json!({"metadata": {"name": "default"}})).await;
    }
    cluster
}

impl Cluster {
    async fn ask(
        &self,
        who: &As<'_>,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> (u16, Value) {
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let mut all = vec![JSON];
        all.extend(headers);
        let bearer = match who {
            As::Token(token) => format!("Bearer {token}"),
            _ => String::new(),
        };
        if !bearer.is_empty() {
            all.push(("authorization", &bearer));
        }
        let mut request = Client::request(method, path, &all, body);
        request.extensions_mut().remove::<User>();
        let certificate = match who {
            As::Admin => Some(("kubernetes-admin", "system:masters")),
            As::Certificate(name, group) => Some((*name, *group)),
            _ => None,
        };
        if let Some((name, group)) = certificate {
            let identity = self.pki.identity(name, group, Timestamp::now()).unwrap();
            let peer = PeerCertificates::new(vec![identity.certificate_der().unwrap()]);
            request.extensions_mut().insert(peer);
        }
        let response = self.server.clone().call(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn make(&self, path: &str, body: Value) -> Value {
        let (code, answer) = self.ask(&As::Admin, "POST", path, &[], Some(&body)).await;
        assert_eq!(code, 201, "{path}: {answer}");
        answer
    }

    async fn code(&self, who: &As<'_>, method: &str, path: &str) -> u16 {
        self.ask(who, method, path, &[], None).await.0
    }

    /// Gives a user every right in namespace `a`.
    async fn crown(&self, user: &str) {
        let all = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);
        let roles = format!("{RBAC}/namespaces/a/roles");
        self.make(&roles, json!({"metadata": {"name": "king"}, "rules": all})).await;
        let binding = json!({
            "metadata": {"name": "king"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "king"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        });
        self.make(&format!("{RBAC}/namespaces/a/rolebindings"), binding).await;
    }
}

#[tokio::test]
async fn rights_in_a_namespace_end_at_its_border() {
    let cluster = cluster().await;
    cluster.crown("ann").await;
    let ann = As::Certificate("ann", "devs");
    for (method, path, expect) in [
        ("GET", "/api/v1/namespaces/a/pods", 200),
        ("GET", "/api/v1/namespaces/a/secrets", 200),
        ("GET", "/apis/apps/v1/namespaces/a/deployments", 200),
        ("GET", "/api/v1/namespaces/b/pods", 403),
        ("GET", "/api/v1/pods", 403),
        ("GET", "/api/v1/watch/pods", 403),
        ("GET", "/api/v1/nodes", 403),
        ("GET", "/api/v1/namespaces", 403),
        ("GET", "/api/v1/namespaces/b", 403),
        ("DELETE", "/api/v1/namespaces/b/pods", 403),
        // CVE-2019-11247: objects of the cluster are in no namespace, whatever the path says.
        ("GET", "/api/v1/namespaces/a/nodes", 404),
        ("GET", "/api/v1/namespaces/a/persistentvolumes", 404),
        ("GET", "/apis/rbac.authorization.k8s.io/v1/namespaces/a/clusterroles", 404),
        ("GET", "/apis/rbac.authorization.k8s.io/v1/namespaces/a/clusterroles/cluster-admin", 404),
        ("DELETE", "/apis/rbac.authorization.k8s.io/v1/namespaces/a/clusterroles/cluster-admin", 404),
        // Escapes and dots name nothing else.
        ("GET", "/api/v1/namespaces/a%2F..%2Fb/pods", 403),
        ("GET", "/api/v1/namespaces/a/../b/pods", 404),
        ("GET", "/metrics", 403),
    ] {
        let code = cluster.code(&ann, method, path).await;
        assert!(code == expect || (expect == 404 && code == 403), "{method} {path}: {code}");
    }
    // Nor does a role of the namespace let one bind or make roles of the cluster.
    let role = json!({"metadata": {"name": "x"}, "rules": []});
    for path in [format!("{RBAC}/clusterroles"), format!("{RBAC}/namespaces/a/clusterroles")] {
        let (code, answer) = cluster.ask(&ann, "POST", &path, &[], Some(&role)).await;
        assert!(matches!(code, 403..=405), "{path}: {code} {answer}");
    }
    let (code, _) = cluster.ask(&As::Admin, "GET", &format!("{RBAC}/clusterroles/x"), &[], None).await;
    assert_eq!(code, 404);
}

#[tokio::test]
async fn strangers_see_health_and_nothing_else() {
    let cluster = cluster().await;
    for (path, expect) in [
        ("/readyz", 200),
        ("/livez", 200),
        ("/healthz", 200),
        ("/api", 401),
        ("/version", 401),
        ("/metrics", 401),
    ] {
        assert_eq!(cluster.code(&As::Nobody, "GET", path).await, expect, "{path}");
    }
    for (path, expect) in [("/readyz", 401), ("/api/v1/pods", 401)] {
        assert_eq!(cluster.code(&As::Token("nonsense"), "GET", path).await, expect, "{path}");
    }
    assert_eq!(cluster.code(&As::Certificate("joe", ""), "GET", "/api/v1").await, 200);
    let (_, answer) = cluster.ask(&As::Certificate("joe", ""), "GET", "/api/v1/pods", &[], None).await;
    assert_eq!(
        answer["message"],
        r#"pods is forbidden: User "joe" cannot list resource "pods" in API group "" at the cluster scope"#
    );
}

#[tokio::test]
async fn tokens_let_their_account_in_until_their_pod_is_gone() {
    let cluster = cluster().await;
    let pods = "/api/v1/namespaces/a/pods";
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let uid = cluster.make(pods, pod).await["metadata"]["uid"].clone();
    let issue = "/api/v1/namespaces/a/serviceaccounts/default/token";
    let bound =
        json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid}}});
    let answer = cluster.make(issue, bound).await;
    let owned = &answer["metadata"]["managedFields"][0];
    assert_eq!(
        (&owned["subresource"], &owned["fieldsV1"]["f:spec"]["f:expirationSeconds"]),
        (&json!("token"), &json!({}))
    );
    let token = answer["status"]["token"].as_str().unwrap();
    let who = As::Token(token);
    let review = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let (code, answer) = cluster.ask(&who, "POST", review, &[], Some(&json!({}))).await;
    assert_eq!(code, 201, "{answer}");
    assert_eq!(answer["status"]["userInfo"]["username"], "system:serviceaccount:a:default");
    assert_eq!(cluster.code(&who, "GET", pods).await, 403);
    assert_eq!(cluster.code(&As::Admin, "DELETE", &format!("{pods}/p")).await, 200);
    assert_eq!(cluster.code(&who, "GET", pods).await, 401);
    // One for someone else never let it in.
    let answer = cluster.make(issue, json!({"spec": {"audiences": ["vault"]}})).await;
    let other = answer["status"]["token"].as_str().unwrap();
    assert_eq!(cluster.code(&As::Token(other), "GET", pods).await, 401);
}

#[tokio::test]
async fn acting_as_others_takes_the_right_to_and_leaves_ones_own() {
    let cluster = cluster().await;
    cluster.crown("ann").await;
    let pods = "/api/v1/namespaces/a/pods";
    let ask =
        async |who: As<'_>, headers: &[(&str, &str)]| cluster.ask(&who, "GET", pods, headers, None).await;
    let as_ann = [("impersonate-user", "ann")];
    assert_eq!(ask(As::Admin, &as_ann).await.0, 200);
    assert_eq!(ask(As::Admin, &[("impersonate-user", "bob")]).await.0, 403);
    assert_eq!(
        ask(As::Admin, &[("impersonate-user", "bob"), ("impersonate-group", "system:masters")]).await.0,
        200
    );
    let (code, answer) = ask(As::Certificate("ann", ""), &[("impersonate-user", "bob")]).await;
    assert_eq!(
        (code, answer["message"].as_str().unwrap()),
        (
            403,
            r#"users.authentication.k8s.io "bob" is forbidden: User "ann" cannot impersonate:user-info resource "users" in API group "authentication.k8s.io" at the cluster scope"#
        )
    );
    let group = [("impersonate-group", "system:masters")];
    assert_eq!(ask(As::Certificate("ann", ""), &group).await.0, 400);
}

#[tokio::test]
async fn accounts_learn_how_tokens_are_verified() {
    let cluster = cluster().await;
    let issue = "/api/v1/namespaces/a/serviceaccounts/default/token";
    let answer = cluster.make(issue, json!({"spec": {}})).await;
    let token = As::Token(answer["status"]["token"].as_str().unwrap());
    let issuer = "https://kubernetes.default.svc.cluster.local";
    let (code, document) = cluster.ask(&token, "GET", "/.well-known/openid-configuration", &[], None).await;
    assert_eq!((code, &document["issuer"]), (200, &issuer.into()));
    assert_eq!(document["jwks_uri"], format!("{issuer}/openid/v1/jwks"));
    let (code, keys) = cluster.ask(&token, "GET", "/openid/v1/jwks", &[], None).await;
    assert_eq!((code, &keys["keys"][0]["kty"]), (200, &"EC".into()));
    for path in ["/.well-known/openid-configuration", "/openid/v1/jwks"] {
        assert_eq!(cluster.code(&As::Nobody, "GET", path).await, 401);
        assert_eq!(cluster.code(&As::Certificate("joe", ""), "GET", path).await, 403);
    }
}

#[tokio::test]
async fn machines_join_by_bootstrap_token() {
    let cluster = cluster().await;
    let token = "abcdef.0123456789abcdef";
    let secret = json!({
        "metadata": {"name": "bootstrap-token-abcdef"}, "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": "abcdef", "token-secret": "0123456789abcdef",
            "usage-bootstrap-authentication": "true", "auth-extra-groups": "system:bootstrappers:farm",
        },
    });
    let who = As::Token(token);
    let review = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    assert_eq!(cluster.code(&who, "POST", review).await, 401);
    cluster.make("/api/v1/namespaces/kube-system/secrets", secret).await;
    let (code, answer) = cluster.ask(&who, "POST", review, &[], Some(&json!({}))).await;
    assert_eq!(code, 201, "{answer}");
    let info = &answer["status"]["userInfo"];
    assert_eq!(info["username"], "system:bootstrap:abcdef");
    let groups = ["system:bootstrappers", "system:bootstrappers:farm", "system:authenticated"];
    assert_eq!(info["groups"], json!(groups));
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let answer = cluster.make(reviews, json!({"spec": {"token": token}})).await;
    assert_eq!(answer["status"]["user"]["username"], "system:bootstrap:abcdef");
    let answer = cluster.make(reviews, json!({"spec": {"token": token, "audiences": ["vault"]}})).await;
    assert_eq!(answer["status"].get("authenticated"), None);
    let path = "/api/v1/namespaces/kube-system/secrets/bootstrap-token-abcdef";
    assert_eq!(cluster.code(&As::Admin, "DELETE", path).await, 200);
    assert_eq!(cluster.code(&who, "POST", review).await, 401);
}

#[tokio::test]
async fn acting_on_a_node_is_no_reading() {
    let cluster = cluster().await;
    cluster.make("/api/v1/nodes", json!({"metadata": {"name": "n1"}})).await;
    let role = json!({"metadata": {"name": "watcher"},
        "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["nodes/proxy"]}]});
    cluster.make(&format!("{RBAC}/clusterroles"), role).await;
    let binding = json!({
        "metadata": {"name": "watcher"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "watcher"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "joe"}],
    });
    cluster.make(&format!("{RBAC}/clusterrolebindings"), binding).await;
    let joe = As::Certificate("joe", "");
    let proxy = "/api/v1/nodes/n1/proxy";
    for path in ["exec/a/p/c?command=id", "attach/a/p/c", "run/a/p/c", "portForward/a/p", "x/exec/a/p/c"] {
        assert_eq!(cluster.code(&joe, "GET", &format!("{proxy}/{path}")).await, 403, "{path}");
    }
    let upgrade = [("connection", "Upgrade"), ("upgrade", "websocket")];
    let (code, _) = cluster.ask(&joe, "GET", &format!("{proxy}/pods"), &upgrade, None).await;
    assert_eq!(code, 403);
    // Reading is what it may: only that nobody dials nodes here.
    assert_ne!(cluster.code(&joe, "GET", &format!("{proxy}/pods")).await, 403);
}
