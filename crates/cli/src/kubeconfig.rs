//! Reads a kubeconfig: where the current context's cluster is, and who we are there.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use carrack_client::connect::{Credentials, Endpoint};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig {
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    users: Vec<NamedUser>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    current_context: String,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    tls_server_name: Option<String>,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Names,
}

#[derive(Deserialize)]
struct Names {
    cluster: String,
    user: String,
}

/// Reads where the server is and what proves who we are.
///
/// # Errors
/// The file cannot be read, or needs what is not supported; the message says what.
pub async fn read(path: &Path) -> Result<(Endpoint, Credentials)> {
    let about = || format!("kubeconfig {}", path.display());
    let text = std::fs::read_to_string(path).with_context(about)?;
    let config: Kubeconfig = serde_saphyr::from_str(&text).with_context(about)?;
    resolve(config, path.parent().unwrap_or(Path::new("."))).await.with_context(about)
}

async fn resolve(config: Kubeconfig, dir: &Path) -> Result<(Endpoint, Credentials)> {
    let current = &config.current_context;
    let context = config.contexts.iter().find(|c| c.name == *current);
    let context = &context.with_context(|| format!("there is no context {current:?}"))?.context;
    let cluster = config.clusters.iter().find(|c| c.name == context.cluster);
    let cluster = &cluster.with_context(|| format!("there is no cluster {:?}", context.cluster))?.cluster;
    let user = config.users.iter().find(|u| u.name == context.user);
    let user = &user.with_context(|| format!("there is no user {:?}", context.user))?.user;
    let rest =
        cluster.server.strip_prefix("https://").context("the server's URL must begin with https://")?;
    let authority = rest.trim_end_matches('/');
    ensure!(!authority.contains('/'), "a server below a path is not supported: {}", cluster.server);
    let address = address(authority).await?;
    let host = authority.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
    let host = host.map_or(authority, |(host, _)| host).trim_matches(['[', ']']);
    let ca_pem = bytes(dir, &cluster.certificate_authority_data, &cluster.certificate_authority)?
        .context("the cluster names no certificate authority")?;
    let server_name = cluster.tls_server_name.clone().unwrap_or_else(|| host.to_owned());
    Ok((Endpoint { address, server_name, ca_pem }, credentials(user, dir)?))
}

fn credentials(user: &User, dir: &Path) -> Result<Credentials> {
    let chain_pem = bytes(dir, &user.client_certificate_data, &user.client_certificate)?;
    let key_pem = bytes(dir, &user.client_key_data, &user.client_key)?;
    match (chain_pem, key_pem, &user.token, &user.token_file) {
        (Some(chain_pem), Some(key_pem), ..) => Ok(Credentials::Certificate { chain_pem, key_pem }),
        (_, _, Some(token), _) => {
            let token = token.clone();
            Ok(Credentials::Token(Arc::new(move || token.clone())))
        }
        (_, _, None, Some(file)) => {
            let file = dir.join(file);
            std::fs::metadata(&file).with_context(|| format!("token file {}", file.display()))?;
            // Read each time: whoever rotates it replaces the file.
            Ok(Credentials::Token(Arc::new(move || {
                std::fs::read_to_string(&file).unwrap_or_default().trim().to_owned()
            })))
        }
        _ => bail!("the user has neither a client certificate with its key nor a token"),
    }
}

async fn address(authority: &str) -> Result<SocketAddr> {
    let with_port = if authority.parse::<std::net::IpAddr>().is_ok() || !authority.contains(':') {
        format!("{authority}:443")
    } else {
        authority.to_owned()
    };
    if let Ok(address) = with_port.parse() {
        return Ok(address);
    }
    let mut found =
        tokio::net::lookup_host(&with_port).await.with_context(|| format!("cannot find {with_port}"))?;
    found.next().with_context(|| format!("{with_port} has no address"))
}

/// Inline data wins over a file, whose path is relative to the kubeconfig.
fn bytes(dir: &Path, data: &Option<String>, file: &Option<PathBuf>) -> Result<Option<Vec<u8>>> {
    match (data, file) {
        (Some(data), _) => Ok(Some(STANDARD.decode(data.trim()).context("data that is not base64")?)),
        (None, Some(file)) => {
            let file = dir.join(file);
            Ok(Some(std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?))
        }
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(server: &str, user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: k, cluster: {{server: \"{server}\", certificate-authority-data: Y2E=}}}}]\n\
             users: [{{name: u, user: {user}}}]\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n"
        )
    }

    async fn check(server: &str, user: &str) -> Result<(SocketAddr, String)> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("config");
        std::fs::write(&path, config(server, user))?;
        let (endpoint, _) = read(&path).await?;
        assert_eq!(endpoint.ca_pem, b"ca");
        Ok((endpoint.address, endpoint.server_name))
    }

    #[tokio::test]
    async fn reads_what_leads_to_a_server() {
        for (server, expect) in [
            ("https://127.0.0.1:6443", ("127.0.0.1:6443", "127.0.0.1")),
            ("https://[::1]:6443/", ("[::1]:6443", "::1")),
            ("https://192.0.2.1", ("192.0.2.1:443", "192.0.2.1")),
        ] {
            let (address, name) = check(server, "{token: t}").await.expect("readable");
            assert_eq!((address.to_string().as_str(), name.as_str()), expect);
        }
    }

    #[tokio::test]
    async fn says_what_is_wrong() {
        for (server, user, about) in [
            ("http://127.0.0.1", "{token: t}", "https://"),
            ("https://127.0.0.1/x", "{token: t}", "below a path"),
            ("https://127.0.0.1", "{}", "neither a client certificate"),
            ("https://127.0.0.1", "{client-certificate-data: '?'}", "base64"),
        ] {
            let error = check(server, user).await.expect_err("wrong");
            assert!(format!("{error:#}").contains(about), "{error:#}");
        }
    }
}
