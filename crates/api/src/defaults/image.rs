//! The pull policy that follows from an image's name.

/// `Always` for the tag latest, named or implied, else `IfNotPresent`.
pub fn pull_policy(image: &str) -> &'static str {
    if tag(image) == Some("latest") { "Always" } else { "IfNotPresent" }
}

/// Bytes of a repository's name.
const MAX_NAME_BYTES: usize = 255;

/// Small letters and digits, between them one dot, one or two underscores, or dashes.
fn is_component(part: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let words = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let separates =
        |text: &str| matches!(text, "" | "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
    let bytes = part.as_bytes();
    let ends = bytes.first().zip(bytes.last()).is_some_and(|(first, last)| is_word(*first) && is_word(*last));
    ends && words.into_iter().all(separates)
}

/// The tag: `latest` is implied when there is neither tag nor digest. `None` when
/// there is a digest only, or when the name is no image's.
fn tag(image: &str) -> Option<&str> {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let last = name.rfind('/').map_or(0, |at| at + 1);
    let (path, tag) = match name[last..].find(':') {
        Some(at) => (&name[..last + at], Some(&name[last + at + 1..])),
        None => (name, None),
    };
    let repository = path.split_once('/').map_or(path, |(domain, rest)| {
        let is_domain = domain.contains(['.', ':']) || domain == "localhost";
        if is_domain { rest } else { path }
    });
    if repository.len() > MAX_NAME_BYTES || !repository.split('/').all(is_component) {
        return None;
    }
    tag.or(if digest.is_none() { Some("latest") } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        for (image, expect) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:abc", "IfNotPresent"),
            ("", "IfNotPresent"),
            ("UPPER", "IfNotPresent"),
            ("a/b-c_d__e.f--g", "Always"),
            ("-x", "IfNotPresent"),
            ("a..b", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), expect, "{image}");
        }
    }
}
