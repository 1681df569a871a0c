//! What the cluster looks like: flags, environment, `DIR/config.yaml`, defaults.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result, bail};
use carrack_network::plan::Prefix;
use clap::Args;
use serde::Deserialize;

/// Settings as given; whatever is absent comes from the next source.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Address of the API [default: 6443 of the loopback and of this node's address]
    #[arg(long, env = "CARRACK_LISTEN", value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// Name of this node [default: the host's name]
    #[arg(long, env = "CARRACK_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Address of this node [default: the one that leads outwards]
    #[arg(long, env = "CARRACK_NODE_ADDRESS", value_name = "ADDR")]
    pub node_address: Option<IpAddr>,
    /// Port of the node's own HTTPS endpoint (logs, exec) [default: 10250]
    #[arg(long, env = "CARRACK_NODE_PORT", value_name = "PORT")]
    pub node_port: Option<u16>,
    /// Addresses of pods [default: 10.42.0.0/16]
    #[arg(long, env = "CARRACK_POD_CIDR", value_name = "CIDR")]
    pub pod_cidr: Option<String>,
    /// Addresses of Services [default: 10.96.0.0/16]
    #[arg(long, env = "CARRACK_SERVICE_CIDR", value_name = "CIDR")]
    pub service_cidr: Option<String>,
    /// Address of the cluster's DNS [default: the tenth of the Services' range]
    #[arg(long, env = "CARRACK_DNS", value_name = "ADDR")]
    pub dns: Option<IpAddr>,
    /// Domain of the cluster [default: cluster.local]
    #[arg(long, env = "CARRACK_DOMAIN", value_name = "DOMAIN")]
    pub domain: Option<String>,
    /// What to log: error, warn, info, debug, trace, or filters such as carrack_server=debug
    #[arg(long, env = "CARRACK_LOG", value_name = "FILTER")]
    pub log: Option<String>,
}

/// Settings with every default filled in.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the API listens.
    pub listen: Vec<SocketAddr>,
    /// The API's port.
    pub api_port: u16,
    /// This node's name.
    pub node_name: String,
    /// This node's address.
    pub node_address: IpAddr,
    /// The node endpoint's port.
    pub node_port: u16,
    /// Pods' range.
    pub pod_cidr: Prefix,
    /// Services' range.
    pub service_cidr: Prefix,
    /// Address of `kubernetes.default`: the first of the Services' range.
    pub api_service: IpAddr,
    /// Cluster DNS.
    pub dns: IpAddr,
    /// Cluster domain.
    pub domain: String,
    /// Log filter.
    pub log: String,
}

impl Settings {
    /// Fills in the file's values and the defaults.
    ///
    /// # Errors
    /// When the file or a value cannot be read, naming it.
    pub fn resolve(&self, data_dir: &Path) -> Result<Config> {
        let file = read_file(&data_dir.join("config.yaml"))?;
        let text = |flag: &Option<String>, file: &Option<String>, default: &str| {
            flag.clone().or_else(|| file.clone()).unwrap_or_else(|| default.to_owned())
        };
        let node_address =
            self.node_address.or(file.node_address).or_else(outward_address).unwrap_or([127, 0, 0, 1].into());
        let listen = match self.listen.or(file.listen) {
            Some(listen) => vec![listen],
            None if node_address.is_loopback() => vec![SocketAddr::from(([127, 0, 0, 1], 6443))],
            None => vec![SocketAddr::from(([127, 0, 0, 1], 6443)), SocketAddr::new(node_address, 6443)],
        };
        let cidr = |name: &'static str, text: String| text.parse::<Prefix>().context(name);
        let pod_cidr = cidr("podCidr", text(&self.pod_cidr, &file.pod_cidr, "10.42.0.0/16"))?;
        let service_cidr = cidr("serviceCidr", text(&self.service_cidr, &file.service_cidr, "10.96.0.0/16"))?;
        let too_small = || format!("serviceCidr: {service_cidr} is too small for Services");
        let node_name = match self.node_name.clone().or(file.node_name) {
            Some(name) => name,
            None => host_name()?,
        };
        Ok(Config {
            api_port: listen[0].port(),
            listen,
            node_name,
            node_address,
            node_port: self.node_port.or(file.node_port).unwrap_or(10250),
            pod_cidr,
            service_cidr,
            dns: match self.dns.or(file.dns) {
                Some(dns) => dns,
                None => service_cidr.nth(10).with_context(too_small)?,
            },
            api_service: service_cidr.nth(1).with_context(too_small)?,
            domain: text(&self.domain, &file.domain, "cluster.local"),
            log: text(&self.log, &file.log, "warn"),
        })
    }
}

fn read_file(path: &Path) -> Result<Settings> {
    match std::fs::read_to_string(path) {
        Ok(text) => serde_saphyr::from_str(&text).with_context(|| format!("cannot read {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Settings::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn host_name() -> Result<String> {
    let name = nix::unistd::gethostname().context("cannot ask for the host's name")?;
    let name = name.to_string_lossy().to_lowercase();
    if name.is_empty() { bail!("this host has no name; give one with --node-name") } else { Ok(name) }
}

/// The address from which this host would reach the outside; a UDP socket tells
/// without sending anything.
fn outward_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.yaml"), "nodeName: from-file\ndomain: example.test\n")
            .unwrap();
        let flags = Settings { node_name: Some("from-flag".into()), ..Settings::default() };
        let config = flags.resolve(dir.path()).unwrap();
        assert_eq!((&*config.node_name, &*config.domain), ("from-flag", "example.test"));
        assert_eq!(config.dns, IpAddr::from([10, 96, 0, 10]));
        std::fs::write(dir.path().join("config.yaml"), "nodeNmae: x\n").unwrap();
        assert!(format!("{:#}", flags.resolve(dir.path()).unwrap_err()).contains("nodeNmae"));
    }
}
