//! The program in the example's image: answers every request with a greeting that
//! names the pod, so that one sees several replicas answer in turn.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

/// Requests served at once at most; more wait in the listener's queue.
const THREADS: usize = 4;

/// Listens until the process is told to stop.
///
/// # Errors
/// When the address cannot be bound.
pub fn serve(listen: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
    crate::sys::end_on_signal().context("cannot handle signals")?;
    let name = std::env::var("HOSTNAME").unwrap_or_else(|_| "an unnamed host".into());
    let body = format!("Hello from Carrack! This is {name}.\n");
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    println!("listening on {listen}");
    let more: Vec<_> = (1..THREADS)
        .map(|_| {
            let (listener, answer) = (listener.try_clone(), answer.clone());
            std::thread::spawn(move || listener.map(|listener| accept(&listener, &answer)))
        })
        .collect();
    accept(&listener, &answer);
    drop(more);
    Ok(())
}

fn accept(listener: &TcpListener, answer: &str) {
    for stream in listener.incoming().flatten() {
        // A client that goes away is its own affair.
        let _ = greet(stream, answer);
    }
}

fn greet(mut stream: TcpStream, answer: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < 16 << 10 {
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            n => head.extend_from_slice(&chunk[..n]),
        }
    }
    stream.write_all(answer.as_bytes())
}
