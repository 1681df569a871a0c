//! Names of registries to addresses: literals, `/etc/hosts`, then the servers of
//! `/etc/resolv.conf`. The static binary has no getaddrinfo.
//!
//! What always holds: every server gets a limited time; search domains apply only to names
//! without a dot, which registries hardly have.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// Time for one answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Rounds over the servers.
const ROUNDS: usize = 2;

/// Addresses of a host, IPv4 first.
pub async fn addresses(host: &str) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let hosts = tokio::fs::read_to_string("/etc/hosts").await.unwrap_or_default();
    let mut found = in_hosts(&hosts, host);
    if found.is_empty() && host == "localhost" {
        found = vec![IpAddr::from([127, 0, 0, 1])];
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let text = tokio::fs::read_to_string("/etc/resolv.conf").await.unwrap_or_default();
    let config = Resolver::parse(&text);
    let mut last = format!("lookup {host}: no such host");
    for name in config.names(host) {
        let (v4, v6) =
            tokio::join!(config.look_up(&name, RecordType::A), config.look_up(&name, RecordType::AAAA));
        for answer in [v4, v6] {
            match answer {
                Ok(addresses) => found.extend(addresses),
                Err(e) => last = format!("lookup {host}: {e}"),
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(last)
}

fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(Ok(address)) = words.next().map(IpAddr::from_str) else {
            continue;
        };
        if words.any(|name| name.eq_ignore_ascii_case(host)) {
            found.push(address);
        }
    }
    found.sort_by_key(IpAddr::is_ipv6);
    found
}

#[derive(Debug, PartialEq, Eq)]
struct Resolver {
    servers: Vec<IpAddr>,
    search: Vec<String>,
}

impl Resolver {
    fn parse(text: &str) -> Self {
        let mut found = Self { servers: Vec::new(), search: Vec::new() };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                // A scope (%eth0) is more than a parsed address holds.
                Some("nameserver") => {
                    let address: Option<IpAddr> = words.next().and_then(|w| w.parse().ok());
                    found.servers.extend(address);
                }
                Some("search" | "domain") => found.search = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        if found.servers.is_empty() {
            found.servers.push(IpAddr::from([127, 0, 0, 1]));
        }
        found.servers.truncate(3);
        found
    }

    fn names(&self, host: &str) -> Vec<String> {
        if host.contains('.') {
            return vec![host.to_owned()];
        }
        let searched = self.search.iter().take(6).map(|domain| format!("{host}.{domain}"));
        searched.chain([host.to_owned()]).collect()
    }

    async fn look_up(&self, name: &str, kind: RecordType) -> Result<Vec<IpAddr>, String> {
        let mut name = Name::from_ascii(name).map_err(|e| e.to_string())?;
        name.set_fqdn(true);
        let mut query = Message::query();
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(name, kind));
        let bytes = query.to_vec().map_err(|e| e.to_string())?;
        let mut last = "no answer".to_owned();
        for server in self.servers.iter().cycle().take(ROUNDS * self.servers.len()) {
            match tokio::time::timeout(PATIENCE, ask(*server, &bytes, query.metadata.id)).await {
                Ok(Ok(answer)) => return Ok(addresses_in(&answer)),
                Ok(Err(e)) => last = format!("{server}: {e}"),
                Err(_) => last = format!("{server}: timed out"),
            }
        }
        Err(last)
    }
}

fn addresses_in(answer: &Message) -> Vec<IpAddr> {
    let address = |data: &RData| match data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(a) => Some(IpAddr::V6(a.0)),
        _ => None,
    };
    answer.answers.iter().filter_map(|record| address(&record.data)).collect()
}

async fn ask(server: IpAddr, query: &[u8], id: u16) -> Result<Message, String> {
    let shown = |e: std::io::Error| e.to_string();
    let any: SocketAddr = match server {
        IpAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        IpAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any).await.map_err(shown)?;
    socket.connect((server, 53)).await.map_err(shown)?;
    socket.send(query).await.map_err(shown)?;
    let mut buffer = [0; 4096];
    loop {
        let n = socket.recv(&mut buffer).await.map_err(shown)?;
        let Ok(answer) = Message::from_vec(&buffer[..n]) else {
            continue;
        };
        if answer.metadata.id != id {
            continue;
        }
        if !answer.metadata.truncation {
            return Ok(answer);
        }
        return ask_whole(server, query).await.map_err(shown);
    }
}

/// Over TCP, for what does not fit.
async fn ask_whole(server: IpAddr, query: &[u8]) -> std::io::Result<Message> {
    let mut stream = TcpStream::connect((server, 53)).await?;
    stream.write_u16(query.len() as u16).await?;
    stream.write_all(query).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Message::from_vec(&answer).map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let text = "127.0.0.1 localhost # me\n::1 localhost\n10.0.0.7 reg.lab reg\nbad line\n";
        for (host, expect) in
            [("localhost", "[127.0.0.1, ::1]"), ("REG", "[10.0.0.7]"), ("me", "[]"), ("reg.la", "[]")]
        {
            assert_eq!(format!("{:?}", in_hosts(text, host)), expect, "{host}");
        }
    }

    #[test]
    fn configuration() {
        let text = "# x\nsearch a.b c\nnameserver 10.0.0.1\nnameserver ::1\nnameserver bad\n";
        let found = Resolver::parse(text);
        assert_eq!(found.servers, [IpAddr::from([10, 0, 0, 1]), "::1".parse::<IpAddr>().unwrap()]);
        assert_eq!(found.names("reg"), ["reg.a.b", "reg.c", "reg"]);
        assert_eq!(found.names("reg.io"), ["reg.io"]);
        assert_eq!(Resolver::parse("").servers, [IpAddr::from([127, 0, 0, 1])]);
    }
}
