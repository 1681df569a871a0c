//! How the control plane's parts are: those of this process run as long as it does, others
//! are looked for where upstream's programs listen.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use carrack_server::registry::Component;
use tokio::net::TcpStream;

use crate::args::Part;

/// The parts, of which this process leaves some out.
pub fn components(disabled: &[Part]) -> Vec<Component> {
    [(Part::Scheduler, "scheduler", 10259), (Part::Controllers, "controller-manager", 10257)]
        .into_iter()
        .map(|(part, name, port)| component(name, (disabled.contains(&part)).then_some(port)))
        .collect()
}

/// A part of this process, or of one that listens on a port of the loopback.
fn component(name: &'static str, elsewhere: Option<u16>) -> Component {
    let probe = move || async move {
        match elsewhere {
            None => Ok(()),
            Some(port) => listening(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await,
        }
    };
    Component { name, probe: Arc::new(move || Box::pin(probe())) }
}

async fn listening(address: SocketAddr) -> Result<(), String> {
    TcpStream::connect(address).await.map(drop).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            _ => error.to_string(),
        };
        format!("Get \"https://{address}/healthz\": dial tcp {address}: connect: {why}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn looks_for_parts_of_other_processes() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(listening(address).await, Ok(()));
        drop(listener);
        let refused = listening(address).await.unwrap_err();
        assert!(refused.ends_with("connect: connection refused"), "{refused}");
        assert_eq!((component("scheduler", None).probe)().await, Ok(()));
    }
}
