//! Times the pure part of the write path on a pod of about 2 kB: decoding,
//! ownership tracking, encoding. `cargo run --release -p carrack-api --example write_path`.

use std::hint::black_box;
use std::time::Duration;

use carrack_api::managed::{self, Types, Write};
use carrack_api::{Content, decode, facts, kinds, patch, proto};

/// As in the program itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const POD: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"load-000001","namespace":"apiload",
"labels":{"app":"load","shard":"s1","tier":"backend"},"annotations":{"example.com/owner":"team-a","example.com/note":"generated for measurement"}},
"spec":{"schedulerName":"nobody","automountServiceAccountToken":false,"containers":[
{"name":"web","image":"registry.example/web:1.2.3","command":["/bin/web","--port=8080"],
"env":[{"name":"A","value":"1"},{"name":"B","value":"two"},{"name":"POD_IP","valueFrom":{"fieldRef":{"fieldPath":"status.podIP"}}}],
"ports":[{"name":"http","containerPort":8080}],
"readinessProbe":{"httpGet":{"path":"/healthz","port":8080},"periodSeconds":5},
"livenessProbe":{"httpGet":{"path":"/healthz","port":8080},"periodSeconds":10},
"resources":{"requests":{"cpu":"100m","memory":"64Mi"},"limits":{"cpu":"500m","memory":"128Mi"}},
"volumeMounts":[{"name":"config","mountPath":"/etc/web"},{"name":"tmp","mountPath":"/tmp"}]},
{"name":"sidecar","image":"registry.example/sidecar:4.5.6","resources":{"requests":{"cpu":"10m","memory":"16Mi"}},
"volumeMounts":[{"name":"tmp","mountPath":"/tmp"}]}],
"volumes":[{"name":"config","configMap":{"name":"web-config","optional":true}},{"name":"tmp","emptyDir":{}}]}}"#;

const STATUS: &[u8] =
    br#"{"status":{"phase":"Running","podIP":"10.1.1.1","conditions":[{"type":"Ready","status":"True"}]}}"#;

/// Time that this process spent on a processor, so that a busy machine disturbs less.
fn on_processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// Prints the median time of a call, over rounds of a thousand.
fn time<T>(what: &str, mut call: impl FnMut() -> T) {
    let mut rounds: Vec<Duration> = (0..15)
        .map(|_| {
            let start = on_processor();
            for _ in 0..1000 {
                black_box(call());
            }
            (on_processor() - start) / 1000
        })
        .collect();
    rounds.sort();
    println!("{what:32} {:>8.2} µs", rounds[7].as_nanos() as f64 / 1000.0);
}

fn main() {
    let schema = facts::schema();
    let root = schema.find("io.k8s.api.core.v1.Pod").expect("Pod is in the table");
    let decoded = decode::json(&schema, root, POD.as_bytes()).expect("the pod is well-formed").value;
    let write = Write { manager: "bench", api_version: "v1", time: "2026-01-01T00:00:00Z", subresource: "" };
    let kinds = kinds::builtin();
    let kind = kinds.stored("pods").expect("Pod is a kind");
    let types = Types::of(kind, 0, "v1", "");
    let mut created = decoded.clone();
    managed::update(&types, &write, None, &mut created);
    let stored = created.to_string();
    println!("body {} bytes, stored {} bytes", POD.len(), stored.len());

    time("serde_json to a tree (reference)", || serde_json::from_str::<serde_json::Value>(POD));
    time("decode", || decode::json(&schema, root, POD.as_bytes()));
    time("type_meta", || decode::type_meta(POD.as_bytes()));
    time("clone a tree (in the next)", || decoded.clone());
    time("clone, track a create", || {
        let mut new = decoded.clone();
        managed::update(&types, &write, None, &mut new);
        new
    });
    time("encode a record", || Content::encode(&created, &["spec.nodeName", "status.phase"]));
    time("read the stored tree", || serde_json::from_str::<serde_json::Value>(&stored));
    let status = Write { subresource: "status", manager: "kubelet", ..write };
    time("clone, patch, decode", || {
        let patched = patch::strategic(&schema, root, created.clone(), STATUS).expect("fits");
        patched.decode(&schema, root, false)
    });
    let patched = patch::strategic(&schema, root, created.clone(), STATUS).expect("fits");
    let after = patched.decode(&schema, root, false).expect("fits").value;
    time("clone, track a status patch", || {
        let mut new = after.clone();
        managed::update(&Types::of(kind, 0, "v1", "status"), &status, Some(&created), &mut new);
        new
    });
    let hostile = format!("{{\"spec\":{{\"containers\":[{}{{}}]}}}}", "{},".repeat(1_000_000));
    let start = on_processor();
    black_box(decode::json(&schema, root, hostile.as_bytes()).is_err());
    println!("{:32} {:>8.2} ms", "refuse a million containers", (on_processor() - start).as_secs_f64() * 1e3);
    if let Ok(message) = proto::encode(&schema, root, &created) {
        println!("protobuf {} bytes", message.len());
        time("encode protobuf", || proto::encode(&schema, root, &created));
        time("decode protobuf", || proto::decode(&schema, root, &message));
    }
}
