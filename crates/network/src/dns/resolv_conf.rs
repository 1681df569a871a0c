//! What a pod's /etc/resolv.conf says, and what the host's says to us. Pure.
//!
//! Follows kubelet (`pkg/kubelet/network/dns/dns.go`), order of the lines as containerd
//! writes them. Where kubelet's order of options is that of a Go map, ours is the order in
//! which they were given. What could break out of its line is left out.

use core::net::{IpAddr, SocketAddr};

/// `spec.dnsPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DnsPolicy {
    /// The cluster's DNS (pods on the host's network: as `Default`).
    #[default]
    ClusterFirst,
    /// The cluster's DNS, also on the host's network.
    ClusterFirstWithHostNet,
    /// As the node.
    Default,
    /// Only `dnsConfig`.
    None,
}

/// `spec.dnsConfig`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodDnsConfig {
    /// Appended.
    pub nameservers: Vec<String>,
    /// Appended.
    pub searches: Vec<String>,
    /// Merged by name.
    pub options: Vec<(String, Option<String>)>,
}

/// The three lists of a resolv.conf.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResolvConf {
    /// Addresses.
    pub servers: Vec<String>,
    /// Domains, without final dots.
    pub searches: Vec<String>,
    /// `name` or `name:value`.
    pub options: Vec<String>,
    /// Messages of kubelet's `DNSConfigForming` events: what did not fit.
    pub warnings: Vec<String>,
}

/// `MaxDNSNameservers`: what glibc reads.
const MAX_SERVERS: usize = 3;
/// `MaxDNSSearchPaths`.
const MAX_SEARCHES: usize = 32;
/// `MaxDNSSearchListChars`.
const MAX_SEARCH_CHARACTERS: usize = 2048;
/// `DNS1123SubdomainMaxLength`.
const MAX_NAME: usize = 253;
/// `maxResolvConfLength`.
const MAX_FILE: usize = 10 << 20;

/// The text of a pod's /etc/resolv.conf, as kubelet writes it.
pub fn resolv_conf(
    policy: DnsPolicy,
    host_network: bool,
    namespace: &str,
    cluster_domain: &str,
    cluster_dns: &[IpAddr],
    pod: &PodDnsConfig,
    host_resolv_conf: &str,
) -> String {
    let host = parse(host_resolv_conf);
    plan(policy, host_network, namespace, cluster_domain, cluster_dns, pod, host).render()
}

/// As [`resolv_conf`], as lists and with the warnings; `host` comes from [`parse`].
pub fn plan(
    policy: DnsPolicy,
    host_network: bool,
    namespace: &str,
    cluster_domain: &str,
    cluster_dns: &[IpAddr],
    pod: &PodDnsConfig,
    host: ResolvConf,
) -> ResolvConf {
    let in_cluster = match policy {
        DnsPolicy::ClusterFirst => !host_network,
        DnsPolicy::ClusterFirstWithHostNet => true,
        DnsPolicy::Default | DnsPolicy::None => false,
    };
    let mut conf = if policy == DnsPolicy::None {
        ResolvConf::default()
    } else if in_cluster && !cluster_dns.is_empty() {
        let mut searches = host.searches;
        if !cluster_domain.is_empty() {
            let own = [
                format!("{namespace}.svc.{cluster_domain}"),
                format!("svc.{cluster_domain}"),
                cluster_domain.to_owned(),
            ];
            searches = without_duplicates(own.into_iter().chain(searches));
        }
        ResolvConf {
            servers: cluster_dns.iter().map(IpAddr::to_string).collect(),
            searches,
            options: vec!["ndots:5".to_owned()],
            warnings: Vec::new(),
        }
    } else {
        host
    };
    conf.merge(pod);
    conf.fit();
    conf
}

/// The host's settings. The last `search` line counts.
pub fn parse(text: &str) -> ResolvConf {
    let mut conf = ResolvConf::default();
    let text = text.get(..MAX_FILE).unwrap_or(text);
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let mut fields = line.split_whitespace().map(str::to_owned);
        match fields.next().as_deref() {
            Some("nameserver") => conf.servers.extend(fields.next()),
            Some("search") => {
                let domain = |text: String| text.strip_suffix('.').map(str::to_owned).unwrap_or(text);
                conf.searches = fields.filter(|text| text != ".").map(domain).collect();
            }
            Some("options") => fields.for_each(|option| set_option(&mut conf.options, option)),
            _ => {}
        }
    }
    conf
}

/// The name servers of the host's resolv.conf, without those in `own` (loops).
pub fn upstreams(host_resolv_conf: &str, own: &[IpAddr]) -> Vec<SocketAddr> {
    let servers = parse(host_resolv_conf).servers.into_iter();
    let address = |text: String| text.parse().ok().filter(|ip: &IpAddr| !own.contains(ip));
    servers.filter_map(address).take(MAX_SERVERS).map(|ip| SocketAddr::new(ip, 53)).collect()
}

impl ResolvConf {
    fn merge(&mut self, pod: &PodDnsConfig) {
        let servers = self.servers.drain(..).chain(pod.nameservers.iter().cloned());
        self.servers = without_duplicates(servers);
        let searches = self.searches.drain(..).chain(pod.searches.iter().cloned());
        self.searches = without_duplicates(searches);
        for (name, value) in &pod.options {
            let option = match value.as_deref() {
                None | Some("") => name.clone(),
                Some(value) => format!("{name}:{value}"),
            };
            set_option(&mut self.options, option);
        }
        let one_word =
            |text: &String| !text.is_empty() && text.chars().all(|c| !c.is_whitespace() && !c.is_control());
        self.servers.retain(one_word);
        self.searches.retain(one_word);
        self.options.retain(one_word);
    }

    fn fit(&mut self) {
        if self.servers.len() > MAX_SERVERS {
            self.servers.truncate(MAX_SERVERS);
            self.warnings.push(format!(
                "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
                self.servers.join(" ")
            ));
        }
        let before = self.searches.len();
        self.searches.truncate(MAX_SEARCHES);
        // glibc 2.28 aborts over a longer one.
        self.searches.retain(|domain| domain.len() <= MAX_NAME);
        while self.searches.join(" ").len() > MAX_SEARCH_CHARACTERS {
            self.searches.pop();
        }
        if self.searches.len() < before {
            self.warnings.push(format!(
                "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
                self.searches.join(" ")
            ));
        }
    }

    /// As a file.
    pub fn render(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            text.push_str(&format!("search {}\n", self.searches.join(" ")));
        }
        for server in &self.servers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

fn set_option(options: &mut Vec<String>, option: String) {
    let name = |option: &str| option.split(':').next().unwrap_or_default().to_owned();
    match options.iter_mut().find(|had| name(had) == name(&option)) {
        Some(had) => *had = option,
        None => options.push(option),
    }
}

fn without_duplicates(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut unique = Vec::new();
    for text in texts {
        if !unique.contains(&text) {
            unique.push(text);
        }
    }
    unique
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "# a comment\nnameserver 192.0.2.1\nnameserver\nsearch old.example\n\
                        search example.org. .\noptions timeout:1 rotate\noptions timeout:2\n";

    fn check(policy: DnsPolicy, host_network: bool, pod: &PodDnsConfig, expect: &str) {
        let dns = ["10.96.0.10".parse().unwrap()];
        let text = resolv_conf(policy, host_network, "shop", "cluster.local", &dns, pod, HOST);
        assert_eq!(text, expect, "{policy:?} {host_network}");
    }

    #[test]
    fn as_kubelet_has_it() {
        let plain = PodDnsConfig::default();
        let cluster = "search shop.svc.cluster.local svc.cluster.local cluster.local example.org\n\
                       nameserver 10.96.0.10\noptions ndots:5\n";
        let host = "search example.org\nnameserver 192.0.2.1\noptions timeout:2 rotate\n";
        check(DnsPolicy::ClusterFirst, false, &plain, cluster);
        check(DnsPolicy::ClusterFirst, true, &plain, host);
        check(DnsPolicy::ClusterFirstWithHostNet, true, &plain, cluster);
        check(DnsPolicy::Default, false, &plain, host);
        check(DnsPolicy::None, false, &plain, "");
    }

    #[test]
    fn the_pods_own_config_is_merged() {
        let pod = PodDnsConfig {
            nameservers: vec!["10.96.0.10".into(), "192.0.2.9".into()],
            searches: vec!["cluster.local".into(), "mine.example".into()],
            options: vec![("ndots".into(), Some("2".into())), ("edns0".into(), None)],
        };
        check(
            DnsPolicy::ClusterFirst,
            false,
            &pod,
            "search shop.svc.cluster.local svc.cluster.local cluster.local example.org mine.example\n\
             nameserver 10.96.0.10\nnameserver 192.0.2.9\noptions ndots:2 edns0\n",
        );
        check(
            DnsPolicy::None,
            false,
            &pod,
            "search cluster.local mine.example\nnameserver 10.96.0.10\nnameserver 192.0.2.9\n\
             options ndots:2 edns0\n",
        );
    }

    #[test]
    fn nothing_breaks_out_of_its_line() {
        let pod = PodDnsConfig {
            nameservers: vec!["192.0.2.9\nnameserver 203.0.113.1".into()],
            searches: vec!["a b".into(), "\u{0}".into(), String::new()],
            options: vec![("x".into(), Some("1\nsearch evil".into()))],
        };
        check(DnsPolicy::None, false, &pod, "");
    }

    #[test]
    fn limits_are_kept_and_said() {
        let pod = PodDnsConfig {
            nameservers: (1..=5).map(|i| format!("192.0.2.{i}")).collect(),
            searches: (0..40).map(|i| format!("d{i}.{}", "x".repeat(100))).collect(),
            options: Vec::new(),
        };
        let host = ResolvConf::default();
        let conf = plan(DnsPolicy::None, false, "ns", "", &[], &pod, host);
        assert_eq!(conf.servers.len(), 3);
        assert!(conf.searches.join(" ").len() <= MAX_SEARCH_CHARACTERS);
        assert_eq!(conf.warnings.len(), 2);
        assert!(conf.warnings[0].starts_with("Nameserver limits were exceeded"));
        assert!(conf.warnings[1].starts_with("Search Line limits were exceeded"));
    }

    #[test]
    fn upstreams_leave_out_ourselves() {
        let text = "nameserver 10.96.0.10\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\n";
        let own = ["10.96.0.10".parse().unwrap()];
        assert_eq!(upstreams(text, &own), ["192.0.2.1:53".parse().unwrap()]);
    }
}
