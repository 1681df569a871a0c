//! The forwarder on localhost, in a network namespace of its own.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::future::Future;
use std::io::ErrorKind;
use std::time::Duration;

use carrack_network::forward::LocalForwarder;
use carrack_network::plan::{Endpoint, Protocol};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

fn in_netns_async(test: impl Future<Output = ()> + Send + 'static) {
    in_netns(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { timeout(Duration::from_secs(20), test).await.unwrap() });
    });
}

/// A server on 127.0.0.2 that says its name and echoes one byte.
async fn server(port: u16, name: u8) -> Endpoint {
    let listener = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.write_all(&[name]).await.unwrap();
                let mut byte = [0];
                if stream.read_exact(&mut byte).await.is_ok() {
                    stream.write_all(&byte).await.unwrap();
                }
            });
        }
    });
    Endpoint { ip: ip("127.0.0.2"), port }
}

async fn name(stream: &mut TcpStream) -> Result<u8, ErrorKind> {
    let mut byte = [0];
    stream.read_exact(&mut byte).await.map(|_| byte[0]).map_err(|error| error.kind())
}

#[test]
fn connections_reach_endpoints_in_turn() {
    in_netns_async(async {
        let (a, b) = (server(1001, b'a').await, server(1002, b'b').await);
        let nobody = Endpoint { ip: ip("127.0.0.2"), port: 1003 };
        let ports = |endpoints: &[Endpoint]| BTreeMap::from([((Protocol::Tcp, 30080), endpoints.to_vec())]);
        let mut forwarder = LocalForwarder::new();
        // An endpoint that refuses is passed over.
        assert!(forwarder.update(ports(&[a, nobody, b])).await.is_empty());
        let mut names = Vec::new();
        for address in ["127.0.0.1:30080", "[::1]:30080", "127.0.0.1:30080", "127.0.0.1:30080"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            names.push(name(&mut stream).await.unwrap());
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names, b"ab");

        // A connection under way outlives its endpoint's removal.
        let mut open = TcpStream::connect("127.0.0.1:30080").await.unwrap();
        name(&mut open).await.unwrap();
        forwarder.update(ports(&[])).await;
        open.write_all(b"x").await.unwrap();
        assert_eq!(name(&mut open).await, Ok(b'x'));

        let mut stream = TcpStream::connect("127.0.0.1:30080").await.unwrap();
        assert_eq!(name(&mut stream).await, Err(ErrorKind::ConnectionReset));

        forwarder.update(BTreeMap::new()).await;
        tokio::task::yield_now().await;
        let refused = TcpStream::connect("127.0.0.1:30080").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_port_in_use_is_reported_and_tried_again() {
    in_netns_async(async {
        let a = server(1001, b'a').await;
        let taken = TcpListener::bind("127.0.0.1:30080").await.unwrap();
        let ports = BTreeMap::from([((Protocol::Tcp, 30080), vec![a])]);
        let mut forwarder = LocalForwarder::new();
        let failed = forwarder.update(ports.clone()).await;
        assert_eq!(failed.len(), 1);
        assert_eq!(failed[0].2.kind(), ErrorKind::AddrInUse);
        drop(taken);
        assert!(forwarder.update(ports).await.is_empty());
        let mut stream = TcpStream::connect("127.0.0.1:30080").await.unwrap();
        assert_eq!(name(&mut stream).await, Ok(b'a'));
    });
}

#[test]
fn datagrams_go_there_and_back() {
    in_netns_async(async {
        let mut endpoints = Vec::new();
        for (port, name) in [(1001, b"a"), (1002, b"b")] {
            let socket = UdpSocket::bind(("127.0.0.2", port)).await.unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 64];
                while let Ok((_, from)) = socket.recv_from(&mut buffer).await {
                    socket.send_to(name, from).await.unwrap();
                }
            });
            endpoints.push(Endpoint { ip: ip("127.0.0.2"), port });
        }
        let ports = |endpoints: &[Endpoint]| BTreeMap::from([((Protocol::Udp, 30053), endpoints.to_vec())]);
        let mut forwarder = LocalForwarder::new();
        assert!(forwarder.update(ports(&endpoints[..1])).await.is_empty());
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.connect("127.0.0.1:30053").await.unwrap();
        let ask = async || {
            let mut buffer = [0; 64];
            client.send(b"?").await.unwrap();
            let length = client.recv(&mut buffer).await.unwrap();
            buffer[..length].to_vec()
        };
        assert_eq!(ask().await, b"a");
        forwarder.update(ports(&endpoints[1..])).await;
        assert_eq!(ask().await, b"b");
    });
}
