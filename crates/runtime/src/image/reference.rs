//! Image references, normalised as docker does: `nginx` is
//! `docker.io/library/nginx:latest`.
//!
//! Pure. Grammar: <https://github.com/distribution/reference>.

use crate::error::{Result, RuntimeError};

/// Registry that a name without one means.
const DEFAULT_REGISTRY: &str = "docker.io";

/// A normalised reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// `docker.io`, `localhost:5000`…
    pub registry: String,
    /// `library/nginx`.
    pub repository: String,
    /// Absent when there is only a digest.
    pub tag: Option<String>,
    /// `sha256:<64 hex digits>`.
    pub digest: Option<String>,
}

impl Reference {
    /// Parses and normalises.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = |reason: &str| RuntimeError::InvalidImageName {
            reference: text.to_owned(),
            reason: reason.to_owned(),
        };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        if digest.is_some_and(|d| !is_digest(d)) {
            return Err(invalid("invalid digest"));
        }
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|t| !is_tag(t)) {
            return Err(invalid("invalid reference format: invalid tag"));
        }
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest)) if is_registry(first) => (first, rest.to_owned()),
            Some(_) => (DEFAULT_REGISTRY, name.to_owned()),
            None => (DEFAULT_REGISTRY, format!("library/{name}")),
        };
        let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
        let repository = match (registry, repository.contains('/')) {
            (DEFAULT_REGISTRY, false) => format!("library/{repository}"),
            _ => repository,
        };
        if name.is_empty() || repository.len() > 255 {
            return Err(invalid("invalid reference format"));
        }
        if name.bytes().any(|b| b.is_ascii_uppercase()) && repository.bytes().any(|b| b.is_ascii_uppercase())
        {
            return Err(invalid("invalid reference format: repository name must be lowercase"));
        }
        if !repository.split('/').all(is_component) || !registry.bytes().all(is_registry_byte) {
            return Err(invalid("invalid reference format"));
        }
        let tag = match (tag, digest) {
            (None, None) => Some("latest"),
            (tag, _) => tag,
        };
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }

    /// Registry and repository.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// `name:tag`, when there is a tag.
    pub fn tagged(&self) -> Option<String> {
        self.tag.as_ref().map(|tag| format!("{}:{tag}", self.name()))
    }

    /// `name@digest` for a manifest's digest.
    pub fn with_digest(&self, digest: &str) -> String {
        format!("{}@{digest}", self.name())
    }

    /// What the registry's API takes: the digest when there is one.
    pub fn manifest(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }

    /// Host and port of the registry's API.
    pub fn endpoint(&self) -> &str {
        if self.registry == DEFAULT_REGISTRY { "registry-1.docker.io" } else { &self.registry }
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// `sha256:` and 64 lower-case hex digits.
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(is_hex_digest)
}

/// 64 lower-case hex digits.
pub fn is_hex_digest(hex: &str) -> bool {
    hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !tag.is_empty()
        && tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// The first part of a name is a host when it looks like one.
fn is_registry(first: &str) -> bool {
    first.contains('.')
        || first.contains(':')
        || first == "localhost"
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_registry_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']')
}

/// Lower-case words with single separators `.`, `_`, `__` or dashes between them.
fn is_component(component: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = component.bytes().next().is_some_and(word) && component.bytes().last().is_some_and(word);
    let legal = component.bytes().all(|b| word(b) || matches!(b, b'.' | b'_' | b'-'));
    ends && legal && !["..", "___", "._", "_.", ".-", "-.", "_-", "-_"].iter().any(|s| component.contains(s))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        let shown = Reference::parse(text).map_or_else(|_| "invalid".to_owned(), |r| r.to_string());
        assert_eq!(shown, expect, "{text}");
    }

    #[test]
    fn normalises() {
        let digest = format!("sha256:{}", "a".repeat(64));
        check("nginx", "docker.io/library/nginx:latest");
        check("nginx:1.27", "docker.io/library/nginx:1.27");
        check("user/app", "docker.io/user/app:latest");
        check("index.docker.io/app:x", "docker.io/library/app:x");
        check("localhost/app", "localhost/app:latest");
        check("localhost:5000/app", "localhost:5000/app:latest");
        check("quay.io/a/b/c:v1", "quay.io/a/b/c:v1");
        check("127.0.0.1:5000/app:v1", "127.0.0.1:5000/app:v1");
        check("[::1]:5000/app:v1", "[::1]:5000/app:v1");
        check(&format!("nginx@{digest}"), &format!("docker.io/library/nginx@{digest}"));
        check(&format!("nginx:1@{digest}"), &format!("docker.io/library/nginx:1@{digest}"));
        check("gcr.io/a__b/c-d.e", "gcr.io/a__b/c-d.e:latest");
    }

    #[test]
    fn refuses() {
        for text in [
            "",
            "Nginx",
            "a/B",
            ":tag",
            "a:",
            "a:-x",
            "a@sha256:123",
            "a b",
            "a//b",
            "-a",
            "a-",
            "a/../b",
            "a:b:c",
            "docker.io/",
            "http://a/b",
        ] {
            check(text, "invalid");
        }
    }
}
