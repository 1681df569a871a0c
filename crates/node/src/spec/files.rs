//! Texts of the files that the agent gives every container: /etc/hosts and
//! /etc/resolv.conf; and the pod's host name. Pure.

use std::fmt::Write as _;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

/// Nameservers and searches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolver {
    /// Addresses in order.
    pub nameservers: Vec<String>,
    /// Search domains in order.
    pub searches: Vec<String>,
    /// `name:value` or `name`.
    pub options: Vec<String>,
}

/// Limits of the C library's resolver, as upstream validates them.
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;

// === impl Resolver ===

impl Resolver {
    /// Reads a resolv.conf; later `search` and `options` lines win.
    pub fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => resolver.nameservers.extend(words.next().map(Into::into)),
                Some("search") => resolver.searches = words.map(Into::into).collect(),
                Some("options") => resolver.options = words.map(Into::into).collect(),
                _ => {}
            }
        }
        resolver
    }

    /// As a file.
    pub fn render(&self) -> String {
        let mut out = String::new();
        if !self.searches.is_empty() {
            let _ = writeln!(out, "search {}", self.searches.join(" "));
        }
        for server in &self.nameservers {
            let _ = writeln!(out, "nameserver {server}");
        }
        if !self.options.is_empty() {
            let _ = writeln!(out, "options {}", self.options.join(" "));
        }
        out
    }
}

/// The resolver of a pod by its `dnsPolicy` and `dnsConfig`.
pub fn resolver(pod: &Pod, host: &Resolver, cluster_dns: &[IpAddr], domain: &str) -> Resolver {
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let on_host = spec.host_network == Some(true);
    let mut resolver = match policy {
        "None" => Resolver::default(),
        "ClusterFirst" if on_host => host.clone(),
        "ClusterFirst" | "ClusterFirstWithHostNet" if !cluster_dns.is_empty() => {
            let mut searches =
                vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
            searches.extend(host.searches.iter().cloned());
            Resolver {
                nameservers: cluster_dns.iter().map(ToString::to_string).collect(),
                searches,
                options: vec!["ndots:5".into()],
            }
        }
        _ => host.clone(),
    };
    if let Some(config) = &spec.dns_config {
        resolver.nameservers.extend(config.nameservers.iter().flatten().cloned());
        resolver.searches.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            resolver.options.retain(|o| o.split(':').next() != Some(name.as_str()));
            resolver.options.push(match &option.value {
                Some(value) => format!("{name}:{value}"),
                None => name,
            });
        }
    }
    dedup(&mut resolver.nameservers);
    dedup(&mut resolver.searches);
    resolver.nameservers.truncate(MAX_NAMESERVERS);
    resolver.searches.truncate(MAX_SEARCHES);
    resolver
}

fn dedup(list: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    list.retain(|item| seen.insert(item.clone()));
}

/// `hostname` and, with a subdomain, the fully qualified name.
pub fn host_name(pod: &Pod, domain: &str) -> (String, Option<String>) {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let spec = pod.spec.as_ref();
    if let Some(over) = spec.and_then(|s| s.hostname_override.clone()) {
        return (over, None);
    }
    let own = spec.and_then(|s| s.hostname.as_deref()).filter(|h| !h.is_empty()).unwrap_or(name);
    // A host name has at most 63 characters and does not end in a dash or dot.
    let short: String = own.chars().take(63).collect();
    let short = short.trim_end_matches(['-', '.']).to_owned();
    let subdomain = spec.and_then(|s| s.subdomain.as_deref()).filter(|s| !s.is_empty());
    let full = subdomain.map(|sub| format!("{short}.{sub}.{namespace}.svc.{domain}"));
    if spec.and_then(|s| s.set_hostname_as_fqdn) == Some(true)
        && let Some(full) = &full
    {
        return (full.clone(), Some(full.clone()));
    }
    (short, full)
}

/// Text of /etc/hosts.
pub fn hosts(pod: &Pod, ips: &[IpAddr], host_file: Option<&str>, domain: &str) -> String {
    let aliases = pod.spec.as_ref().and_then(|s| s.host_aliases.as_ref());
    let mut out = match host_file {
        Some(text) => {
            format!("# Kubernetes-managed hosts file (host network).\n{text}")
        }
        None => {
            let mut out = String::from(
                "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                 fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
            );
            let (short, full) = host_name(pod, domain);
            for ip in ips {
                let _ = match &full {
                    Some(full) if *full != short => writeln!(out, "{ip}\t{full}\t{short}"),
                    _ => writeln!(out, "{ip}\t{short}"),
                };
            }
            out
        }
    };
    if let Some(aliases) = aliases.filter(|a| !a.is_empty()) {
        out.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names: Vec<_> = alias.hostnames.iter().flatten().map(String::as_str).collect();
            let _ = writeln!(out, "{}\t{}", alias.ip, names.join("\t"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "web-0", "namespace": "shop"}, "spec": spec}))
            .expect("a pod")
    }

    #[test]
    fn policies() {
        let host = Resolver::parse("search lan\nnameserver 192.168.1.1\noptions edns0\n");
        let dns = ["10.96.0.10".parse().expect("an address")];
        let text = |spec| resolver(&pod(spec), &host, &dns, "cluster.local").render();
        let cluster = "search shop.svc.cluster.local svc.cluster.local cluster.local lan\nnameserver 10.96.0.10\noptions ndots:5\n";
        assert_eq!(text(json!({"containers": []})), cluster);
        assert_eq!(
            text(json!({"containers": [], "hostNetwork": true})),
            "search lan\nnameserver 192.168.1.1\noptions edns0\n"
        );
        let own = json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {
            "nameservers": ["1.1.1.1"], "searches": ["x"], "options": [{"name": "ndots", "value": "2"}]}});
        assert_eq!(text(own), "search x\nnameserver 1.1.1.1\noptions ndots:2\n");
    }

    #[test]
    fn names_and_hosts() {
        let pod = pod(json!({"containers": [], "hostname": "h", "subdomain": "db",
            "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}));
        assert_eq!(
            host_name(&pod, "cluster.local"),
            ("h".into(), Some("h.db.shop.svc.cluster.local".into()))
        );
        let text = hosts(&pod, &["10.42.0.3".parse().expect("an address")], None, "cluster.local");
        assert!(text.contains("10.42.0.3\th.db.shop.svc.cluster.local\th\n"), "{text}");
        assert!(text.ends_with("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"), "{text}");
    }
}
