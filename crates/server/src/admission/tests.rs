//! Writes through a registry with all plugins.

use serde_json::json;

use super::*;
use crate::Server;
use crate::auth::testing::store as memory;
use crate::quota::Ledger;
use crate::registry::Registry;
use crate::request::User;

struct Cluster {
    store: Arc<dyn Store>,
    server: Server,
}

/// A namespace `a` with a default account, nodes n1 and n2, and a pod `p1` on n1.
async fn cluster() -> Cluster {
    let store = memory();
    let authorizers = Arc::new(Authorizers::new(store.clone()));
    let mut builder = Server::builder(store.clone(), carrack_api::kinds::builtin());
    for plugin in plugins(&store, &authorizers, &Ledger::new(store.clone())) {
        builder = builder.admission(plugin);
    }
    let cluster = Cluster { server: builder.build(), store };
    for name in ["a", "default", "kube-node-lease"] {
        cluster.create("namespaces", json!({"metadata": {"name": name}})).await.unwrap();
    }
    let account =
        json!({"metadata": {"namespace": "a", "name": "default"}, "imagePullSecrets": [{"name": "pull"}]});
    cluster.create("serviceaccounts", account).await.unwrap();
    for name in ["n1", "n2"] {
        cluster.create("nodes", json!({"metadata": {"name": name}})).await.unwrap();
    }
    let mut pod = pod("p1");
    pod["spec"]["nodeName"] = "n1".into();
    cluster.create("pods", pod).await.unwrap();
    cluster
}

impl Cluster {
    fn registry(&self) -> &Registry {
        self.server.registry()
    }

    async fn create(&self, resource: &str, object: Value) -> Result<Value, Status> {
        self.create_as(&User::loopback(), resource, object).await
    }

    async fn create_as(&self, user: &User, resource: &str, object: Value) -> Result<Value, Status> {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let call = self.registry().call(user.clone(), resource, &namespace, "")?;
        Ok(self.registry().create(&call, object).await?.record.decode())
    }

    /// Changes an object or its subresource (`nodes/status`).
    async fn modify(
        &self,
        user: &User,
        resource: &str,
        namespace: &str,
        name: &str,
        change: impl Fn(&mut Value) + Send + Sync,
    ) -> Result<Value, Status> {
        let (resource, sub) = resource.split_once('/').unwrap_or((resource, ""));
        let call = self.registry().call(user.clone(), resource, namespace, name)?.on(sub);
        let written = self.registry().modify(&call, |object| {
            change(object);
            Ok(())
        });
        Ok(written.await?.record.decode())
    }

    async fn delete(&self, user: &User, resource: &str, namespace: &str, name: &str) -> Result<(), Status> {
        let (resource, sub) = resource.split_once('/').unwrap_or((resource, ""));
        let call = self.registry().call(user.clone(), resource, namespace, name)?.on(sub);
        self.registry().delete(&call, &Default::default()).await.map(drop)
    }

    fn uid(&self, resource: &str, namespace: &str, name: &str) -> String {
        look_up(&self.store, resource, namespace, name).unwrap().header().uid.to_string()
    }
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"namespace": "a", "name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

fn node(name: &str) -> User {
    User::new(&format!("system:node:{name}"), ["system:nodes", "system:authenticated"])
}

fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: u16, message: &str) {
    let status = result.unwrap_err();
    assert!(
        status.code == code && status.message.contains(message),
        "wanted {code} {message}\nfound {status:?}"
    );
}

#[tokio::test]
async fn namespaces_must_be_there_and_alive() {
    let cluster = cluster().await;
    let map = |namespace: &str| json!({"metadata": {"namespace": namespace, "name": "m"}});
    let missing = cluster.create("configmaps", map("nowhere")).await;
    refused(missing, 404, r#"namespaces "nowhere" not found"#);
    cluster.create("configmaps", map("a")).await.unwrap();
    let all = User::loopback();
    cluster.delete(&all, "namespaces", "", "a").await.unwrap();
    let mut another = map("a");
    another["metadata"]["name"] = "n".into();
    let status = cluster.create("configmaps", another).await.unwrap_err();
    assert_eq!(
        status.message,
        "configmaps \"n\" is forbidden: unable to create new content in namespace a because it is being terminated"
    );
    assert_eq!(status.details["causes"][0]["reason"], "NamespaceTerminating");
    // What is there can still change and go.
    cluster.modify(&all, "configmaps", "a", "m", |m| m["data"] = json!({"k": "v"})).await.unwrap();
    cluster.delete(&all, "configmaps", "a", "m").await.unwrap();
    refused(
        cluster.delete(&all, "namespaces", "", "default").await,
        403,
        "this namespace may not be deleted",
    );
}

#[tokio::test]
async fn pods_are_given_what_they_do_not_say() {
    let cluster = cluster().await;
    let made = cluster.create("pods", pod("x")).await.unwrap();
    let mut spec = made["spec"].clone();
    let volume = spec["volumes"][0]["name"].as_str().unwrap().to_owned();
    assert!(volume.starts_with("kube-api-access-") && volume.len() == 21, "{volume}");
    spec["volumes"][0]["name"] = "kube-api-access-xxxxx".into();
    spec["containers"][0]["volumeMounts"][0]["name"] = "kube-api-access-xxxxx".into();
    insta::assert_json_snapshot!("pod_spec", spec);
    let mut quiet = pod("y");
    quiet["spec"]["automountServiceAccountToken"] = false.into();
    quiet["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
    let made = cluster.create("pods", quiet).await.unwrap();
    assert_eq!(made["spec"].get("volumes"), None);
    assert_eq!(made["spec"]["tolerations"].as_array().map(Vec::len), Some(1));
    let node = look_up(&cluster.store, "nodes", "", "n1").unwrap().decode();
    assert_eq!(
        node["spec"]["taints"],
        json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}])
    );
}

#[tokio::test]
async fn pods_need_their_account_and_class() {
    let cluster = cluster().await;
    let with = |field: &str, value: Value| {
        let mut pod = pod("x");
        pod["spec"][field] = value;
        pod
    };
    let missing = cluster.create("pods", with("serviceAccountName", "s".into())).await;
    refused(
        missing,
        403,
        r#"pods "x" is forbidden: error looking up service account a/s: serviceaccount "s" not found"#,
    );
    let unfit = cluster.create("pods", with("serviceAccountName", "a/b%".into())).await;
    refused(
        unfit,
        403,
        r#"error looking up service account a/a/b%: invalid resource name "a/b%": [may not contain '/' may not contain '%']"#,
    );
    let missing = cluster.create("pods", with("priorityClassName", "c".into())).await;
    refused(missing, 403, "no PriorityClass with name c was found");
    let wrong = cluster.create("pods", with("priority", 7.into())).await;
    refused(wrong, 403, "the integer value of priority (7) must not be provided in pod spec");
    let class =
        |name: &str, value: i64| json!({"metadata": {"name": name}, "value": value, "globalDefault": true});
    cluster.create("priorityclasses.scheduling.k8s.io", class("c", 9)).await.unwrap();
    let second = cluster.create("priorityclasses.scheduling.k8s.io", class("d", 8)).await;
    refused(second, 403, "PriorityClass c is already marked as default. Only one default can exist");
    let made = cluster.create("pods", pod("x")).await.unwrap();
    assert_eq!((&made["spec"]["priority"], &made["spec"]["priorityClassName"]), (&9.into(), &"c".into()));
}

#[tokio::test]
async fn a_pod_waits_for_its_namespaces_account() {
    let cluster = Arc::new(cluster().await);
    cluster.create("namespaces", json!({"metadata": {"name": "late"}})).await.unwrap();
    let mut pod = pod("x");
    pod["metadata"]["namespace"] = "late".into();
    let other = cluster.clone();
    let waiting = tokio::spawn(async move { other.create("pods", pod).await });
    tokio::task::yield_now().await;
    cluster
        .create("serviceaccounts", json!({"metadata": {"namespace": "late", "name": "default"}}))
        .await
        .unwrap();
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn nodes_write_themselves_only() {
    let cluster = cluster().await;
    let n1 = node("n1");
    let label = |key: &'static str| move |node: &mut Value| node["metadata"]["labels"][key] = "x".into();
    cluster.modify(&n1, "nodes", "", "n1", label("kubernetes.io/os")).await.unwrap();
    cluster.modify(&n1, "nodes", "", "n1", label("example.com/any")).await.unwrap();
    cluster.modify(&n1, "nodes", "", "n1", label("node.kubernetes.io/any")).await.unwrap();
    cluster.modify(&n1, "nodes/status", "", "n1", |node| node["status"]["phase"] = "x".into()).await.unwrap();
    for key in [
        "node-restriction.kubernetes.io/a",
        "a.node-restriction.kubernetes.io/a",
        "kubernetes.io/x",
        "x.k8s.io/y",
    ] {
        let result = cluster.modify(&n1, "nodes", "", "n1", label(key)).await;
        refused(result, 403, &format!("is not allowed to modify labels: {key}"));
    }
    let other =
        cluster.modify(&n1, "nodes/status", "", "n2", |node| node["status"]["phase"] = "x".into()).await;
    refused(other, 403, r#"node "system:node:n1""#.replace("system:node:", "").as_str());
    let taints = cluster.modify(&n1, "nodes", "", "n1", |node| node["spec"]["taints"] = json!([])).await;
    refused(taints, 403, r#"node "n1" is not allowed to modify taints"#);
    // CVE-2025-5187: no owner whose deletion takes the node along.
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "u"}]);
    let owned = cluster
        .modify(&n1, "nodes", "", "n1", |node| node["metadata"]["ownerReferences"] = owner.clone())
        .await;
    refused(owned, 403, r#"node "n1" is not allowed to modify ownerReferences"#);
    let new = json!({"metadata": {"name": "n3", "labels": {"node-restriction.kubernetes.io/a": "b"}}});
    refused(
        cluster.create_as(&node("n3"), "nodes", new).await,
        403,
        r#"node "n3" is not allowed to set the following labels: node-restriction.kubernetes.io/a"#,
    );
    refused(
        cluster.create_as(&n1, "nodes", json!({"metadata": {"name": "n4"}})).await,
        403,
        r#"node "n1" is not allowed to modify node "n4""#,
    );
    let lease = |namespace: &str, name: &str| json!({"metadata": {"namespace": namespace, "name": name}});
    let leases = "leases.coordination.k8s.io";
    cluster.create_as(&n1, leases, lease("kube-node-lease", "n1")).await.unwrap();
    let other = cluster.create_as(&n1, leases, lease("kube-node-lease", "n2")).await;
    refused(other, 403, "can only access node lease with the same name as the requesting node");
    let elsewhere = cluster.create_as(&n1, leases, lease("a", "n1")).await;
    refused(elsewhere, 403, r#"can only access leases in the "kube-node-lease" system namespace"#);
}

#[tokio::test]
async fn nodes_write_their_pods_only() {
    let cluster = cluster().await;
    let (n1, n2) = (node("n1"), node("n2"));
    let status = |pod: &mut Value| pod["status"]["message"] = "m".into();
    cluster.modify(&n1, "pods/status", "a", "p1", status).await.unwrap();
    let other = cluster.modify(&n2, "pods/status", "a", "p1", status).await;
    refused(other, 403, r#"node "n2" can only update pod status for pods with spec.nodeName set to itself"#);
    let labels = |pod: &mut Value| pod["metadata"]["labels"] = json!({"a": "b"});
    refused(
        cluster.modify(&n1, "pods/status", "a", "p1", labels).await,
        403,
        "cannot update labels through pod status",
    );
    let spec = cluster.modify(&n1, "pods", "a", "p1", labels).await;
    refused(spec, 403, r#"node "n1" can only create and delete mirror pods"#);
    let eviction = cluster.delete(&n2, "pods/eviction", "a", "p1").await;
    refused(eviction, 403, "node n2 can only evict pods with spec.nodeName set to itself");
    let deletion = cluster.delete(&n2, "pods", "a", "p1").await;
    refused(deletion, 403, r#"node "n2" can only delete pods with spec.nodeName set to itself"#);
    cluster.delete(&n1, "pods", "a", "p1").await.unwrap();
}

#[tokio::test]
async fn mirror_pods_open_nothing() {
    let cluster = cluster().await;
    let n1 = node("n1");
    let uid = cluster.uid("nodes", "", "n1");
    let mut good = pod("m");
    good["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "h"});
    good["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": uid, "controller": true}]);
    good["spec"]["nodeName"] = "n1".into();
    let secret = json!([{"name": "v", "secret": {"secretName": "s"}}]);
    let token = json!([{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]);
    for (pointer, value, message) in [
        ("/metadata/annotations", json!({}), "node \"n1\" can only create mirror pods"),
        ("/spec/nodeName", "n2".into(), "can only create pods with spec.nodeName set to itself"),
        (
            "/metadata/ownerReferences",
            json!([]),
            "can only create pods with an owner reference set to itself",
        ),
        (
            "/metadata/ownerReferences/0/name",
            "n2".into(),
            "can only create pods with an owner reference set to itself",
        ),
        (
            "/metadata/ownerReferences/0/controller",
            false.into(),
            "with a controller owner reference set to itself",
        ),
        ("/metadata/ownerReferences/0/blockOwnerDeletion", true.into(), "must not set blockOwnerDeletion"),
        ("/metadata/ownerReferences/0/uid", "forged".into(), "UID mismatch: expected forged got"),
        ("/spec/serviceAccountName", "default".into(), "a mirror pod may not reference service accounts"),
        ("/spec/volumes", secret, "a mirror pod may not reference secrets"),
        ("/spec/volumes", token, "a mirror pod may not use ServiceAccountToken volume projections"),
        // CVE-2025-4563: nor resource claims.
        (
            "/spec/resourceClaims",
            json!([{"name": "c", "resourceClaimName": "x"}]),
            "can not create pods that reference resourceclaims",
        ),
        (
            "/spec/volumes",
            json!([{"name": "v", "configMap": {"name": "c"}}]),
            "can not create pods that reference configmaps",
        ),
    ] {
        let mut bad = good.clone();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        bad.pointer_mut(parent).unwrap()[field] = value;
        refused(cluster.create_as(&n1, "pods", bad).await, 403, message);
    }
    let made = cluster.create_as(&n1, "pods", good).await.unwrap();
    assert_eq!(made["spec"].get("volumes"), None, "no token is mounted");
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_hold() {
    let cluster = cluster().await;
    let group = "rbac.authorization.k8s.io";
    let rule = |verbs: &[&str], groups: &[&str], resources: &[&str]| json!([{"verbs": verbs, "apiGroups": groups, "resources": resources}]);
    let role = |name: &str, rules: Value| json!({"metadata": {"name": name}, "rules": rules});
    let bind = |name: &str, role: &str, user: &str| {
        json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
        })
    };
    let (roles, bindings) = (format!("clusterroles.{group}"), format!("clusterrolebindings.{group}"));
    let ann = User::new("ann", ["devs", "system:authenticated"]);
    cluster.create(&roles, role("reader", rule(&["get", "list"], &[""], &["pods"]))).await.unwrap();
    cluster.create(&bindings, bind("ann", "reader", "ann")).await.unwrap();
    cluster.create_as(&ann, &roles, role("part", rule(&["get"], &[""], &["pods"]))).await.unwrap();
    let more = cluster
        .create_as(&ann, &roles, role("more", rule(&["get", "delete", "watch"], &[""], &["pods"])))
        .await;
    refused(
        more,
        403,
        "clusterroles.rbac.authorization.k8s.io \"more\" is forbidden: user \"ann\" (groups=[\"devs\" \
         \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n\
         {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\" \"watch\"]}",
    );
    let mut gathering = role("all", json!([]));
    gathering["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]});
    let gathers = cluster.create_as(&ann, &roles, gathering).await;
    refused(gathers, 403, "must have cluster-admin privileges to use the aggregationRule");
    // Binding: what one holds, or what one may bind.
    cluster.create(&roles, role("writer", rule(&["create"], &[""], &["pods"]))).await.unwrap();
    cluster.create_as(&ann, &bindings, bind("bob", "reader", "bob")).await.unwrap();
    refused(
        cluster.create_as(&ann, &bindings, bind("eve", "writer", "ann")).await,
        403,
        "not currently held",
    );
    let missing = cluster.create_as(&ann, &bindings, bind("eve", "missing", "ann")).await;
    refused(missing, 404, r#"clusterrolebindings.rbac.authorization.k8s.io "missing" not found"#);
    let verbs = json!([
        {"verbs": ["bind"], "apiGroups": [group], "resources": ["clusterroles"], "resourceNames": ["writer"]},
        {"verbs": ["escalate"], "apiGroups": [group], "resources": ["clusterroles"]},
    ]);
    cluster.create(&roles, role("binder", verbs)).await.unwrap();
    cluster.create(&bindings, bind("binder", "binder", "ann")).await.unwrap();
    cluster.create_as(&ann, &bindings, bind("eve", "writer", "ann")).await.unwrap();
    cluster.create_as(&ann, &roles, role("more", rule(&["*"], &["*"], &["*"]))).await.unwrap();
}

#[tokio::test]
async fn nodes_ask_for_their_pods_tokens_only() {
    use crate::auth::token::{TokenConfig, TokenRequest, Tokens};
    use crate::seams::Action;
    let cluster = cluster().await;
    let key = rcgen::KeyPair::generate().unwrap().serialize_der();
    let clock = Arc::new(crate::SystemClock);
    let tokens = Tokens::new(TokenConfig::default(), &[key], cluster.store.clone(), clock).unwrap();
    let action = TokenRequest::new(Arc::new(tokens));
    let uid = cluster.uid("pods", "a", "p1");
    let bound = |uid: &str, audiences: Value| {
        json!({"metadata": {}, "spec": {
            "expirationSeconds": 3607, "audiences": audiences,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p1", "uid": uid}}})
    };
    let ask = |user: User, body: Value| {
        let call = cluster.registry().call(user, "serviceaccounts", "a", "default").unwrap().on("token");
        let (action, registry) = (&action, cluster.registry());
        async move { action.act(&call, registry, body).await }
    };
    ask(node("n1"), bound(&uid, json!([]))).await.unwrap();
    refused(
        ask(node("n2"), bound(&uid, json!([]))).await,
        403,
        "bound to a pod scheduled on a different node",
    );
    refused(ask(node("n1"), bound("", json!([]))).await, 403, "with a pod binding without a uid");
    refused(ask(node("n1"), bound("old", json!([]))).await, 403, "does not match the UID in record");
    let free = json!({"metadata": {}, "spec": {"expirationSeconds": 3607}});
    refused(ask(node("n1"), free.clone()).await, 403, "node requested token not bound to a pod");
    refused(
        ask(node("n1"), bound(&uid, json!(["vault"]))).await,
        403,
        "audience \"vault\" not found in pod spec volume",
    );
    refused(
        ask(node("n1"), bound(&uid, json!(["a", "b"]))).await,
        403,
        "node may only request 0 or 1 audiences",
    );
    ask(User::loopback(), free).await.unwrap();
}

#[tokio::test]
async fn limits_and_standards_hold_pods_back() {
    let cluster = cluster().await;
    let range = json!({"metadata": {"namespace": "a", "name": "l"}, "spec": {"limits": [
        {"type": "Container", "default": {"cpu": "200m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}}]}});
    cluster.create("limitranges", range).await.unwrap();
    let made = cluster.create("pods", pod("x")).await.unwrap();
    let resources = json!({"limits": {"cpu": "200m"}, "requests": {"cpu": "100m"}});
    assert_eq!(made["spec"]["containers"][0]["resources"], resources);
    let mut greedy = pod("y");
    greedy["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "2"}});
    let expect = "pods \"y\" is forbidden: maximum cpu usage per Container is 1, but limit is 2";
    refused(cluster.create("pods", greedy).await, 403, expect);
    // Standards: enforced on pods, warned of on templates.
    let all = User::loopback();
    let label = |value: &'static str| {
        move |namespace: &mut Value| {
            namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = value.into();
        }
    };
    let wrong = cluster.modify(&all, "namespaces", "", "a", label("high")).await;
    refused(wrong, 422, "must be one of privileged, baseline, restricted");
    cluster.modify(&all, "namespaces", "", "a", label("baseline")).await.unwrap();
    let mut privileged = pod("z");
    privileged["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    let expect = r#"pods "z" is forbidden: violates PodSecurity "baseline:latest": privileged (container "c" must not set securityContext.privileged=true)"#;
    refused(cluster.create("pods", privileged.clone()).await, 403, expect);
    let call = cluster.registry().call(all.clone(), "replicasets.apps", "a", "").unwrap();
    let mut template = json!({"metadata": {"labels": {"a": "b"}}, "spec": privileged["spec"]});
    template["spec"]["restartPolicy"] = "Always".into();
    let set = json!({"metadata": {"name": "r"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    cluster.registry().create(&call, set).await.unwrap();
    let warnings = call.warnings.take();
    assert!(
        warnings.iter().any(|w| w.starts_with(r#"would violate PodSecurity "baseline:latest""#)),
        "{warnings:?}"
    );
    // Whom a stricter level would keep out is told when it is set.
    let call = cluster.registry().call(all, "namespaces", "", "a").unwrap();
    let stricter = cluster.registry().modify(&call, |namespace| {
        label("restricted")(namespace);
        Ok(())
    });
    stricter.await.unwrap();
    let warnings = call.warnings.take();
    assert!(
        warnings[0]
            .starts_with(r#"existing pods in namespace "a" violate the new PodSecurity enforce level"#),
        "{warnings:?}"
    );
}

#[tokio::test]
async fn classes_fill_in_and_protect() {
    let cluster = cluster().await;
    let class = |name: &str| {
        json!({"metadata": {"name": name, "annotations": {
        "storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "p", "allowVolumeExpansion": true})
    };
    cluster.create("storageclasses.storage.k8s.io", class("gold")).await.unwrap();
    let claim = json!({"metadata": {"namespace": "a", "name": "c"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let made = cluster.create("persistentvolumeclaims", claim).await.unwrap();
    assert_eq!(made["spec"]["storageClassName"], "gold");
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    let grow = |claim: &mut Value| claim["spec"]["resources"]["requests"]["storage"] = "2Gi".into();
    let (all, claims) = (User::loopback(), "persistentvolumeclaims");
    let bound = |claim: &mut Value| claim["status"]["phase"] = "Bound".into();
    cluster.modify(&all, "persistentvolumeclaims/status", "a", "c", bound).await.unwrap();
    let forbid = |class: &mut Value| class["allowVolumeExpansion"] = false.into();
    cluster.modify(&all, "storageclasses.storage.k8s.io", "", "gold", forbid).await.unwrap();
    let stiff = cluster.modify(&all, claims, "a", "c", grow).await;
    refused(
        stiff,
        403,
        "only dynamically provisioned pvc can be resized and the storageclass that provisions",
    );
    let allow = |class: &mut Value| class["allowVolumeExpansion"] = true.into();
    cluster.modify(&all, "storageclasses.storage.k8s.io", "", "gold", allow).await.unwrap();
    cluster.modify(&all, claims, "a", "c", grow).await.unwrap();
    let runtime = json!({"metadata": {"name": "vm"}, "handler": "vm", "overhead": {"podFixed": {"cpu": "1"}},
        "scheduling": {"nodeSelector": {"vm": "yes"}}});
    cluster.create("runtimeclasses.node.k8s.io", runtime).await.unwrap();
    let mut with = pod("x");
    with["spec"]["runtimeClassName"] = "vm".into();
    let made = cluster.create("pods", with.clone()).await.unwrap();
    assert_eq!(
        (&made["spec"]["overhead"]["cpu"], &made["spec"]["nodeSelector"]["vm"]),
        (&"1".into(), &"yes".into())
    );
    with["spec"]["nodeSelector"] = json!({"vm": "no"});
    let expect = "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no";
    refused(cluster.create("pods", with).await, 403, expect);
    let mut alone = pod("y");
    alone["spec"]["overhead"] = json!({"cpu": "1"});
    let expect = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
    refused(cluster.create("pods", alone).await, 403, expect);
    let mut missing = pod("y");
    missing["spec"]["runtimeClassName"] = "none".into();
    refused(cluster.create("pods", missing).await, 403, r#"pod rejected: RuntimeClass "none" not found"#);
}

#[tokio::test]
async fn certificates_are_decided_by_whom_their_signer_trusts() {
    let cluster = cluster().await;
    let request = |organization: &str| {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, organization);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        use base64::Engine;
        let encoded = base64::engine::general_purpose::STANDARD.encode(pem);
        json!({"metadata": {"name": "r"}, "spec": {"request": encoded, "usages": ["client auth"],
            "signerName": "kubernetes.io/kube-apiserver-client"}})
    };
    let resource = "certificatesigningrequests.certificates.k8s.io";
    let expect = "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";
    refused(cluster.create(resource, request("system:masters")).await, 403, expect);
    let ann = User::new("ann", ["system:authenticated"]);
    let mut forged = request("devs");
    forged["spec"]["username"] = "king".into();
    let made = cluster.create_as(&ann, resource, forged).await.unwrap();
    assert_eq!(
        (&made["spec"]["username"], &made["spec"]["groups"]),
        (&"ann".into(), &json!(["system:authenticated"]))
    );
    let approve = |object: &mut Value| {
        object["status"]["conditions"] =
            json!([{"type": "Approved", "status": "True", "reason": "r", "message": "m"}]);
    };
    let approval = format!("{resource}/approval");
    let refusal = cluster.modify(&ann, &approval, "", "r", approve).await;
    let expect =
        r#"user not permitted to approve requests with signerName "kubernetes.io/kube-apiserver-client""#;
    refused(refusal, 403, expect);
    let done = cluster.modify(&User::loopback(), &approval, "", "r", approve).await.unwrap();
    assert!(done["status"]["conditions"][0]["lastTransitionTime"].is_string());
    let back =
        cluster.modify(&User::loopback(), &approval, "", "r", |object| object["status"] = json!({})).await;
    refused(back, 422, r#"updates may not remove a condition of type "Approved""#);
    // The spec does not change, and a certificate comes through the status only.
    let kept = cluster
        .modify(&User::loopback(), resource, "", "r", |object| object["spec"]["usages"] = json!([]))
        .await;
    assert_eq!(kept.unwrap()["spec"]["usages"], json!(["client auth"]));
    let wrong = |object: &mut Value| object["status"]["certificate"] = "eA==".into();
    let status = cluster.modify(&User::loopback(), &format!("{resource}/status"), "", "r", wrong).await;
    refused(status, 422, "must contain at least one CERTIFICATE PEM block");
}

#[tokio::test]
async fn nobody_blocks_what_they_could_not_finalize() {
    let cluster = cluster().await;
    let group = "rbac.authorization.k8s.io";
    let role = json!({"metadata": {"name": "maps"}, "rules": [
        {"verbs": ["create", "update"], "apiGroups": [""], "resources": ["configmaps"]}]});
    cluster.create(&format!("clusterroles.{group}"), role).await.unwrap();
    let bind = json!({"metadata": {"name": "maps"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "maps"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "ann"}]});
    cluster.create(&format!("clusterrolebindings.{group}"), bind).await.unwrap();
    let ann = User::new("ann", ["system:authenticated"]);
    let owner = |block: bool| json!([{"apiVersion": "v1", "kind": "Pod", "name": "p1", "uid": "u", "blockOwnerDeletion": block}]);
    let map = |name: &str, owners: Value| json!({"metadata": {"namespace": "a", "name": name, "ownerReferences": owners}});
    cluster.create_as(&ann, "configmaps", map("m", owner(false))).await.unwrap();
    let expect = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: ";
    refused(cluster.create_as(&ann, "configmaps", map("n", owner(true))).await, 403, expect);
    let change = cluster
        .modify(&ann, "configmaps", "a", "m", |m| m["metadata"]["ownerReferences"][0]["name"] = "p2".into())
        .await;
    refused(change, 403, "cannot set an ownerRef on a resource you can't delete: ");
}
