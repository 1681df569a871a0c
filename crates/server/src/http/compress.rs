//! Compresses large answers, as upstream does above 128 KiB, for clients that want it.
//!
//! What always holds: watches are never compressed; a streamed answer stays one, of which
//! no second copy is made. One deliberate difference: a client on this very machine gets
//! answers as they are, since compressing them costs more than the loopback saves.

use std::io::Write as _;
use std::net::IpAddr;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, VARY};
use http::{HeaderMap, Response};

use super::Body;
use super::body::Inner;

/// Answers up to this size stay as they are.
const THRESHOLD: usize = 128 << 10;
/// What is compressed at a time, so that others get their turn in between.
const PIECE: usize = 64 << 10;

/// Where a request comes from; absent within the process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remote(pub(crate) IpAddr);

/// Compresses an answer if it is worth it and wanted.
pub(crate) async fn fit(
    response: Response<Body>,
    headers: &HeaderMap,
    remote: Option<&Remote>,
) -> Response<Body> {
    let far = remote.is_some_and(|Remote(address)| !address.to_canonical().is_loopback());
    if !far || !wanted(headers) || is_watch(&response) || response.headers().contains_key(CONTENT_ENCODING) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let body = match body.0 {
        Inner::Full(Some(bytes)) if bytes.len() > THRESHOLD => Ok(pieces(bytes).boxed()),
        Inner::Stream(frames) => hold(frames).await,
        small => Err(Body(small)),
    };
    match body {
        Ok(frames) => {
            parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            if !parts.headers.get_all(VARY).iter().any(|value| value == "Accept-Encoding") {
                parts.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
            }
            Response::from_parts(parts, Body::stream(gzip(frames)))
        }
        Err(body) => Response::from_parts(parts, body),
    }
}

fn wanted(headers: &HeaderMap) -> bool {
    let all = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(',')).any(|encoding| encoding.trim() == "gzip")
}

fn is_watch(response: &Response<Body>) -> bool {
    let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    media_type.is_none_or(|media_type| media_type.contains("stream=watch"))
        || response.extensions().get::<Watching>().is_some()
}

/// Marks an answer that goes on for as long as things change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watching;

fn pieces(bytes: Bytes) -> impl Stream<Item = Bytes> {
    stream::unfold(bytes, |mut rest| async move {
        let piece = rest.split_to(rest.len().min(PIECE));
        (!piece.is_empty()).then_some((piece, rest))
    })
}

/// Waits until a stream turns out large; a small one comes back whole.
async fn hold(mut frames: BoxStream<'static, Bytes>) -> Result<BoxStream<'static, Bytes>, Body> {
    let (mut held, mut size) = (Vec::new(), 0);
    while size <= THRESHOLD {
        match frames.next().await {
            Some(frame) => {
                size += frame.len();
                held.push(frame);
            }
            None => return Err(Body::from(held.concat())),
        }
    }
    Ok(stream::iter(held).chain(frames).boxed())
}

fn gzip(frames: BoxStream<'static, Bytes>) -> impl Stream<Item = Bytes> {
    // Upstream's level, too: the fastest.
    let encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
    stream::unfold((frames, encoder), |(mut frames, encoder)| async move {
        let mut encoder = encoder?;
        loop {
            let Some(frame) = frames.next().await else {
                let end = encoder.finish().expect("writing to memory cannot fail");
                return Some((end.into(), (frames, None)));
            };
            encoder.write_all(&frame).expect("writing to memory cannot fail");
            if encoder.get_ref().len() >= PIECE / 4 {
                let made = std::mem::take(encoder.get_mut());
                return Some((made.into(), (frames, Some(encoder))));
            }
            // Frames that are there at once must not keep the thread.
            tokio::task::yield_now().await;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::io::Read as _;

    async fn answer(body: Body, encoding: &str, remote: [u8; 4]) -> (bool, Vec<u8>) {
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_str(encoding).expect("a header"));
        let fitted = fit(response, &headers, Some(&Remote(remote.into()))).await;
        let zipped = fitted.headers().get(CONTENT_ENCODING).is_some_and(|value| value == "gzip");
        (zipped, fitted.into_body().collect().await.expect("never fails").to_bytes().into())
    }

    fn plain(zipped: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(zipped).read_to_end(&mut out).expect("gzip");
        out
    }

    #[tokio::test]
    async fn only_large_answers_to_others_are_compressed() {
        let text: Vec<u8> = (0..400_000u32).map(|n| b'a' + (n % 23) as u8).collect();
        let frames = |size: usize| {
            let frames: Vec<Bytes> = text[..size].chunks(1000).map(Bytes::copy_from_slice).collect();
            Body::stream(stream::iter(frames))
        };
        for (body, size, encoding, remote, expect) in [
            (Body::from(text.clone()), 400_000, "br, gzip", [192, 0, 2, 1], true),
            (frames(400_000), 400_000, "gzip", [192, 0, 2, 1], true),
            (frames(100_000), 100_000, "gzip", [192, 0, 2, 1], false),
            (Body::from(text[..1000].to_vec()), 1000, "gzip", [192, 0, 2, 1], false),
            (Body::from(text.clone()), 400_000, "br", [192, 0, 2, 1], false),
            (Body::from(text.clone()), 400_000, "gzip", [127, 0, 0, 1], false),
        ] {
            let (zipped, bytes) = answer(body, encoding, remote).await;
            assert_eq!(zipped, expect, "{size} bytes to {remote:?} that takes {encoding}");
            let bytes = if zipped { plain(&bytes) } else { bytes };
            assert!(bytes == text[..size], "{size} bytes come back as they were");
        }
    }
}
