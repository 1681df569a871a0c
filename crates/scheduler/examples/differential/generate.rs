//! Cluster states from a seed: small ones, in which everything that the plugins look at
//! occurs often enough to matter.

use std::collections::BTreeSet;

use carrack_client::backoff::mix;
use serde_json::{Map, Value, json};

/// A stream of numbers.
pub struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = mix(self.0.wrapping_add(0x9e37_79b9_7f4a_7c15));
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len() as u64) as usize]
    }
}

const ZONES: &[&str] = &["a", "b", "c"];
const APPS: &[&str] = &["web", "db", "cache"];
const NAMESPACES: &[&str] = &["one", "two"];
const KEYS: &[&str] = &["kubernetes.io/hostname", "topology.kubernetes.io/zone", "rack"];
const CLAIMS: &[&str] = &["c0", "c1", "c2", "c3", "c4"];

/// One state: `objects` and the `pod` to place.
pub fn state(seed: u64, number: u64) -> Value {
    let mut dice = Dice(mix(seed ^ mix(number)));
    let nodes = 1 + dice.below(8);
    let mut objects: Vec<Value> = (0..nodes).map(|at| node(&mut dice, at)).collect();
    for (at, name) in NAMESPACES.iter().enumerate() {
        let team = if at == 0 { "red" } else { "blue" };
        objects.push(json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {"team": team}}}));
    }
    let volumes = dice.chance(25);
    // States in which nodes are full, so that someone must go.
    let crowded = dice.chance(50);
    let placed = if crowded { nodes * (2 + dice.below(4)) } else { dice.below(nodes * 3 + 1) };
    let mut ports = BTreeSet::new();
    for at in 0..placed {
        let on = dice.below(nodes);
        let mut pod = pod(&mut dice, &format!("p{at}"), volumes, crowded);
        pod["spec"]["nodeName"] = format!("n{on}").into();
        // Two pods never hold the same port of a node.
        if !ports.insert(on) {
            drop_ports(&mut pod);
        }
        // Distinct times, so that there is no tie that either side may break as it likes.
        pod["status"] = json!({"startTime": time(1_000_000_000 + at * 1000 + dice.below(1000))});
        if dice.chance(6) {
            pod["metadata"]["deletionTimestamp"] = "2033-01-01T00:00:00Z".into();
            pod["metadata"]["deletionGracePeriodSeconds"] = 30.into();
            if dice.chance(50) {
                pod["status"]["conditions"] = json!([{"type": "DisruptionTarget", "status": "True",
                    "reason": "PreemptionByScheduler"}]);
            }
        }
        objects.push(pod);
    }
    for at in 0..dice.below(3) {
        let mut pod = pod(&mut dice, &format!("nominated{at}"), false, crowded);
        pod["status"] = json!({"nominatedNodeName": format!("n{}", dice.below(nodes))});
        if dice.chance(40) {
            objects.push(pod);
        }
    }
    for at in 0..dice.below(3) {
        objects.push(budget(&mut dice, at));
    }
    owners(&mut dice, &mut objects);
    if volumes {
        storage(&mut dice, nodes, &mut objects);
    }
    let mut pod = pod(&mut dice, "incoming", volumes, crowded);
    pod["spec"]["priority"] = dice.pick(&["0", "50", "100", "2000"]).parse::<i64>().unwrap_or(0).into();
    if dice.chance(5) {
        pod["spec"]["preemptionPolicy"] = "Never".into();
    }
    if dice.chance(15) {
        pod["status"] = json!({"nominatedNodeName": format!("n{}", dice.below(nodes))});
    }
    if dice.chance(40) {
        let (kind, group) =
            [("ReplicaSet", "apps/v1"), ("StatefulSet", "apps/v1"), ("ReplicationController", "v1")]
                [dice.below(3) as usize];
        pod["metadata"]["ownerReferences"] = json!([{"apiVersion": group, "kind": kind, "name": "owner",
            "uid": "owner", "controller": true}]);
    }
    json!({"objects": objects, "pod": pod})
}

fn drop_ports(pod: &mut Value) {
    for list in ["containers", "initContainers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            container.as_object_mut().map(|container| container.remove("ports"));
        }
    }
}

fn time(seconds: u64) -> String {
    jiff::Timestamp::from_second(seconds as i64).map(|time| time.to_string()).unwrap_or_default()
}

fn node(dice: &mut Dice, at: u64) -> Value {
    let mut labels = json!({"kubernetes.io/hostname": format!("n{at}")});
    if dice.chance(85) {
        labels["topology.kubernetes.io/zone"] = dice.pick(ZONES).into();
    }
    if dice.chance(60) {
        labels["rack"] = dice.pick(&["r1", "r2"]).into();
    }
    if dice.chance(50) {
        labels["disk"] = dice.pick(&["ssd", "hdd"]).into();
        labels["size"] = dice.pick(&["1", "5", "9"]).into();
    }
    let mut taints = Vec::new();
    for _ in 0..dice.below(3) {
        if dice.chance(30) {
            let effect = dice.pick(&["NoSchedule", "NoExecute", "PreferNoSchedule", "PreferNoSchedule"]);
            taints.push(
                json!({"key": dice.pick(&["k1", "k2"]), "value": dice.pick(&["x", "y"]), "effect": effect}),
            );
        }
    }
    let mut allocatable = json!({"cpu": dice.pick(&["2", "4", "8"]), "memory": dice.pick(&["4Gi", "8Gi", "9000000k"]),
        "pods": dice.pick(&["4", "8", "20"]), "ephemeral-storage": "20Gi"});
    if dice.chance(30) {
        allocatable["example.com/gpu"] = dice.pick(&["1", "2"]).into();
    }
    let mut images = Vec::new();
    for image in ["big", "small"] {
        if dice.chance(40) {
            let size: i64 = if image == "big" { 700 << 20 } else { 90 << 20 };
            images.push(json!({"names": [format!("registry/{image}:latest")], "sizeBytes": size}));
        }
    }
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("n{at}"), "labels": labels},
        "spec": {"taints": taints, "unschedulable": dice.chance(8)},
        "status": {"allocatable": allocatable, "images": images}})
}

fn pod(dice: &mut Dice, name: &str, volumes: bool, crowded: bool) -> Value {
    let labels = json!({"app": dice.pick(APPS), "tier": dice.pick(&["front", "back"])});
    let mut spec = json!({
        "schedulerName": "default-scheduler",
        "priority": dice.pick(&["0", "0", "10", "100", "1000"]).parse::<i64>().unwrap_or(0),
        "containers": [container(dice, crowded)],
    });
    if dice.chance(20) {
        let mut second = container(dice, false);
        second["name"] = "second".into();
        if let Some(all) = spec["containers"].as_array_mut() {
            all.push(second);
        }
    }
    if dice.chance(15) {
        let mut first = container(dice, crowded);
        first["name"] = "init".into();
        if dice.chance(50) {
            first["restartPolicy"] = "Always".into();
        }
        spec["initContainers"] = json!([first]);
    }
    if dice.chance(8) {
        spec["overhead"] = json!({"cpu": "100m", "memory": "64Mi"});
    }
    if dice.chance(8) {
        spec["resources"] = json!({"requests": {"cpu": "1500m"}});
    }
    if dice.chance(30) {
        spec["tolerations"] = json!([{"key": dice.pick(&["k1", "k2", ""]), "operator": "Exists",
            "effect": dice.pick(&["", "NoSchedule", "PreferNoSchedule"])}]);
        if dice.chance(40) {
            spec["tolerations"][0] =
                json!({"key": "k1", "operator": "Equal", "value": dice.pick(&["x", "y"])});
        }
    }
    if dice.chance(12) {
        spec["nodeSelector"] = json!({"disk": dice.pick(&["ssd", "hdd"])});
    }
    let affinity = affinity(dice);
    if !affinity.is_empty() {
        spec["affinity"] = affinity.into();
    }
    if dice.chance(30) {
        spec["topologySpreadConstraints"] = (0..1 + dice.below(2)).map(|_| spread(dice)).collect();
    }
    if volumes && dice.chance(60) {
        spec["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": dice.pick(CLAIMS)}}]);
    } else if dice.chance(5) {
        spec["volumes"] =
            json!([{"name": "v", "gcePersistentDisk": {"pdName": "disk", "readOnly": dice.chance(50)}}]);
    }
    let namespace = if volumes { "one" } else { dice.pick(NAMESPACES) };
    json!({"apiVersion": "v1", "kind": "Pod", "spec": spec,
        "metadata": {"name": name, "namespace": namespace, "uid": name, "labels": labels}})
}

fn container(dice: &mut Dice, crowded: bool) -> Value {
    let mut requests = json!({});
    if crowded || dice.chance(70) {
        requests["cpu"] = dice.pick(&["250m", "1", "1500m", "3"]).into();
    }
    if dice.chance(60) {
        requests["memory"] = dice.pick(&["512Mi", "1Gi", "3Gi"]).into();
    }
    if dice.chance(8) {
        requests["example.com/gpu"] = "1".into();
    }
    if dice.chance(5) {
        requests["ephemeral-storage"] = "9Gi".into();
    }
    let mut container = json!({"name": "c", "image": dice.pick(&["registry/big", "registry/small:latest", "other"]),
        "resources": {"requests": requests}});
    if dice.chance(10) {
        let mut port = json!({"containerPort": 80, "hostPort": 80, "protocol": dice.pick(&["TCP", "UDP"])});
        if dice.chance(40) {
            port["hostIP"] = dice.pick(&["127.0.0.1", "0.0.0.0"]).into();
        }
        container["ports"] = json!([port]);
    }
    container
}

fn selector(dice: &mut Dice) -> Value {
    match dice.below(10) {
        0 => json!({}),
        1 => json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "db"]}]}),
        2 => json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}),
        3 => json!({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}),
        4 => {
            json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["back"]}]})
        }
        _ => json!({"matchLabels": {"app": dice.pick(APPS)}}),
    }
}

fn spread(dice: &mut Dice) -> Value {
    let hard = dice.chance(60);
    let mut constraint = json!({"maxSkew": 1 + dice.below(2), "topologyKey": dice.pick(KEYS),
        "whenUnsatisfiable": if hard { "DoNotSchedule" } else { "ScheduleAnyway" }, "labelSelector": selector(dice)});
    if hard && dice.chance(25) {
        constraint["minDomains"] = (1 + dice.below(4)).into();
    }
    if dice.chance(25) {
        constraint["nodeAffinityPolicy"] = dice.pick(&["Honor", "Ignore"]).into();
    }
    if dice.chance(25) {
        constraint["nodeTaintsPolicy"] = dice.pick(&["Honor", "Ignore"]).into();
    }
    if dice.chance(20) {
        constraint["matchLabelKeys"] = json!(["tier"]);
    }
    constraint
}

fn pod_term(dice: &mut Dice) -> Value {
    let mut term = json!({"topologyKey": dice.pick(KEYS), "labelSelector": selector(dice)});
    if dice.chance(20) {
        term["namespaces"] = json!([dice.pick(NAMESPACES)]);
    }
    if dice.chance(20) {
        term["namespaceSelector"] = if dice.chance(40) {
            json!({})
        } else {
            json!({"matchLabels": {"team": dice.pick(&["red", "blue"])}})
        };
    }
    term
}

fn affinity(dice: &mut Dice) -> Map<String, Value> {
    let mut affinity = Map::new();
    for (kind, percent) in [("podAffinity", 12), ("podAntiAffinity", 18)] {
        let mut rules = Map::new();
        if dice.chance(percent) {
            let terms: Vec<Value> = (0..1 + dice.below(2)).map(|_| pod_term(dice)).collect();
            rules.insert("requiredDuringSchedulingIgnoredDuringExecution".into(), terms.into());
        }
        if dice.chance(15) {
            let term = json!({"weight": 1 + dice.below(100), "podAffinityTerm": pod_term(dice)});
            rules.insert("preferredDuringSchedulingIgnoredDuringExecution".into(), json!([term]));
        }
        if !rules.is_empty() {
            affinity.insert(kind.into(), rules.into());
        }
    }
    let mut rules = Map::new();
    if dice.chance(15) {
        let terms: Vec<Value> = (0..1 + dice.below(2)).map(|_| node_term(dice)).collect();
        let terms = json!({"nodeSelectorTerms": terms});
        rules.insert("requiredDuringSchedulingIgnoredDuringExecution".into(), terms);
    }
    if dice.chance(15) {
        let terms: Vec<Value> = (0..1 + dice.below(2))
            .map(|_| json!({"weight": 1 + dice.below(100), "preference": node_term(dice)}))
            .collect();
        rules.insert("preferredDuringSchedulingIgnoredDuringExecution".into(), terms.into());
    }
    if !rules.is_empty() {
        affinity.insert("nodeAffinity".into(), rules.into());
    }
    affinity
}

fn node_term(dice: &mut Dice) -> Value {
    if dice.chance(15) {
        let name = format!("n{}", dice.below(4));
        return json!({"matchFields": [{"key": "metadata.name", "operator": dice.pick(&["In", "NotIn"]), "values": [name]}]});
    }
    let one = match dice.below(5) {
        0 => json!({"key": "disk", "operator": "Exists"}),
        1 => json!({"key": "size", "operator": dice.pick(&["Gt", "Lt"]), "values": ["4"]}),
        2 => json!({"key": "rack", "operator": "DoesNotExist"}),
        _ => {
            json!({"key": "topology.kubernetes.io/zone", "operator": dice.pick(&["In", "NotIn"]), "values": [dice.pick(ZONES), "z"]})
        }
    };
    json!({"matchExpressions": [one]})
}

fn budget(dice: &mut Dice, at: u64) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": format!("b{at}"), "namespace": dice.pick(NAMESPACES)},
        "spec": {"selector": {"matchLabels": {"app": dice.pick(APPS)}}},
        "status": {"disruptionsAllowed": dice.below(3), "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}})
}

fn owners(dice: &mut Dice, objects: &mut Vec<Value>) {
    let namespace = dice.pick(NAMESPACES);
    if dice.chance(40) {
        objects.push(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": namespace},
            "spec": {"selector": {"app": dice.pick(APPS)}}}),
        );
    }
    for (kind, group) in
        [("ReplicaSet", "apps/v1"), ("StatefulSet", "apps/v1"), ("ReplicationController", "v1")]
    {
        let labels = json!({"tier": dice.pick(&["front", "back"])});
        let selector = if kind == "ReplicationController" { labels } else { json!({"matchLabels": labels}) };
        objects.push(
            json!({"apiVersion": group, "kind": kind, "metadata": {"name": "owner", "namespace": namespace},
            "spec": {"selector": selector}}),
        );
    }
}

fn storage(dice: &mut Dice, nodes: u64, objects: &mut Vec<Value>) {
    for (name, provisioner, mode) in [
        ("fast", "csi.example", "WaitForFirstConsumer"),
        ("manual", "kubernetes.io/no-provisioner", "WaitForFirstConsumer"),
        ("now", "csi.example", "Immediate"),
    ] {
        let mut class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
            "provisioner": provisioner, "volumeBindingMode": mode});
        if dice.chance(30) {
            class["allowedTopologies"] = json!([{"matchLabelExpressions": [
                {"key": "topology.kubernetes.io/zone", "values": ["a", "b"]}]}]);
        }
        objects.push(class);
    }
    for name in CLAIMS {
        if !dice.chance(90) {
            continue;
        }
        let class = dice.pick(&["fast", "fast", "manual", "now"]);
        let mut claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": "one", "uid": format!("uid-{name}")},
            "spec": {"storageClassName": class, "accessModes": [dice.pick(&["ReadWriteOnce", "ReadWriteOncePod"])],
                "volumeMode": "Filesystem", "resources": {"requests": {"storage": dice.pick(&["1Gi", "5Gi"])}}},
            "status": {"phase": "Pending"}});
        if dice.chance(55) {
            claim["spec"]["volumeName"] = format!("v-{name}").into();
            claim["metadata"]["annotations"] = json!({"pv.kubernetes.io/bind-completed": "yes"});
            if dice.chance(92) {
                objects.push(volume(dice, &format!("v-{name}"), class, Some(name)));
            }
        } else if dice.chance(15) {
            let node = format!("n{}", dice.below(nodes));
            claim["metadata"]["annotations"] = json!({"volume.kubernetes.io/selected-node": node});
        }
        objects.push(claim);
    }
    for at in 0..dice.below(3) {
        objects.push(volume(dice, &format!("free{at}"), "manual", None));
    }
    for at in 0..nodes {
        if dice.chance(60) {
            objects.push(json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode",
                "metadata": {"name": format!("n{at}")}, "spec": {"drivers": [{"name": "csi.example",
                    "nodeID": "n", "allocatable": {"count": 1 + dice.below(2)}}]}}));
        }
    }
}

fn volume(dice: &mut Dice, name: &str, class: &str, claim: Option<&str>) -> Value {
    let mut spec = json!({"capacity": {"storage": dice.pick(&["2Gi", "10Gi"])}, "storageClassName": class,
        "accessModes": ["ReadWriteOnce", "ReadWriteOncePod"], "volumeMode": "Filesystem",
        "csi": {"driver": "csi.example", "volumeHandle": name}});
    let mut metadata = json!({"name": name});
    if dice.chance(40) {
        spec["nodeAffinity"] = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "topology.kubernetes.io/zone", "operator": "In", "values": [dice.pick(ZONES), "a"]}]}]}});
    }
    if dice.chance(25) {
        metadata["labels"] = json!({"topology.kubernetes.io/zone": dice.pick(&["a", "b", "a__b"])});
    }
    if let Some(claim) = claim {
        spec["claimRef"] = json!({"namespace": "one", "name": claim, "uid": format!("uid-{claim}")});
    }
    json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec,
        "status": {"phase": if claim.is_some() { "Bound" } else { "Available" }}})
}
