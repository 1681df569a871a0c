//! The `v5.channel.k8s.io` and `v4.channel.k8s.io` WebSocket subprotocols: the first
//! byte of a binary message names its channel. Pure but for the handshake's key.

use bytes::Bytes;
use carrack_runtime::TerminalSize;
use http::{HeaderMap, header};
use serde_json::{Value, json};

/// Standard input.
pub const STDIN: u8 = 0;
/// Standard output.
pub const STDOUT: u8 = 1;
/// Standard error.
pub const STDERR: u8 = 2;
/// The final `Status`.
pub const ERROR: u8 = 3;
/// Sizes of the terminal.
pub const RESIZE: u8 = 4;
/// Half-close of a channel, since v5.
pub const CLOSE: u8 = 255;

/// Protocols served, preferred first.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// Bytes for standard input.
    Stdin(Bytes),
    /// No more standard input.
    CloseStdin,
    /// The terminal's new size.
    Resize(TerminalSize),
    /// Nothing that matters.
    Nothing,
}

/// A handshake that can be answered: the accept key and the protocol.
#[derive(Debug, PartialEq, Eq)]
pub struct Handshake {
    /// `Sec-WebSocket-Accept`.
    pub accept: String,
    /// `Sec-WebSocket-Protocol`.
    pub protocol: &'static str,
}

/// Reads an upgrade request; the error says what is wrong with it.
pub fn handshake(headers: &HeaderMap) -> Result<Handshake, String> {
    let text =
        |name: &header::HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let upgrades = text(&header::CONNECTION).to_ascii_lowercase().contains("upgrade");
    if !upgrades || !text(&header::UPGRADE).eq_ignore_ascii_case("websocket") {
        return Err("you must upgrade the connection: this is served over a WebSocket only".into());
    }
    if text(&header::SEC_WEBSOCKET_VERSION) != "13" {
        return Err("only version 13 of the WebSocket protocol is served".into());
    }
    let key = text(&header::SEC_WEBSOCKET_KEY);
    if key.is_empty() {
        return Err("Sec-WebSocket-Key is missing".into());
    }
    let offered: Vec<&str> = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(',').map(str::trim))
        .collect();
    let protocol = PROTOCOLS
        .into_iter()
        .find(|p| offered.contains(p))
        .ok_or_else(|| format!("none of the subprotocols {offered:?} is served; use one of {PROTOCOLS:?}"))?;
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
    Ok(Handshake { accept, protocol })
}

/// Reads one binary message.
pub fn receive(mut message: Bytes) -> Received {
    if message.is_empty() {
        return Received::Nothing;
    }
    match message.split_to(1)[0] {
        STDIN if !message.is_empty() => Received::Stdin(message),
        RESIZE => {
            let size: Value = serde_json::from_slice(&message).unwrap_or_default();
            let side = |name: &str| size[name].as_u64().and_then(|n| u16::try_from(n).ok());
            match (side("Width"), side("Height")) {
                (Some(width), Some(height)) => Received::Resize(TerminalSize { width, height }),
                _ => Received::Nothing,
            }
        }
        CLOSE if message.first() == Some(&STDIN) => Received::CloseStdin,
        _ => Received::Nothing,
    }
}

/// One binary message.
pub fn frame(channel: u8, data: &[u8]) -> Bytes {
    let mut message = Vec::with_capacity(data.len() + 1);
    message.push(channel);
    message.extend_from_slice(data);
    message.into()
}

/// The `Status` at the end of a command.
pub fn exit_status(result: &Result<i32, String>) -> Value {
    match result {
        Ok(0) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: error executing command, exit code {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Err(message) => json!({
            "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
            "message": format!("Internal error occurred: {message}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "v5.channel.k8s.io,v4.channel.k8s.io"),
        ] {
            headers.insert(name, value.parse().expect("a value"));
        }
        let expect =
            Handshake { accept: "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".into(), protocol: "v5.channel.k8s.io" };
        assert_eq!(handshake(&headers), Ok(expect));
        for missing in ["upgrade", "sec-websocket-key", "sec-websocket-protocol"] {
            let mut headers = headers.clone();
            headers.remove(missing);
            assert!(handshake(&headers).is_err(), "{missing}");
        }
    }

    #[test]
    fn messages() {
        let cases: [(&[u8], Received); 6] = [
            (b"\x00ab", Received::Stdin(Bytes::from_static(b"ab"))),
            (b"\xff\x00", Received::CloseStdin),
            (b"\xff\x01", Received::Nothing),
            (b"\x04{\"Width\":80,\"Height\":24}", Received::Resize(TerminalSize { width: 80, height: 24 })),
            (b"\x04{}", Received::Nothing),
            (b"", Received::Nothing),
        ];
        for (message, expect) in cases {
            assert_eq!(receive(Bytes::from_static(message)), expect);
        }
        assert_eq!(exit_status(&Ok(3))["details"]["causes"][0]["message"], "3");
    }
}
