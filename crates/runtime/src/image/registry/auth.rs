//! Getting through a registry's door: basic authentication and bearer tokens
//! (<https://distribution.github.io/distribution/spec/auth/token/>).
//!
//! What always holds: a challenge is answered once per session, and the answer reused; a
//! refusal's error carries the registry's own code and message.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::http::{HttpClient, Response, Target, collect};
use crate::error::{Result, RuntimeError};
use crate::image::reference::Reference;
use crate::traits::RegistryAuth;

/// Longest error or token document.
const MAX_ANSWER: u64 = 256 << 10;

/// Requests to one registry for one repository.
pub struct Session<'a> {
    http: &'a HttpClient,
    reference: &'a Reference,
    auth: Option<&'a RegistryAuth>,
    known: Mutex<Known>,
}

/// What has been found out.
#[derive(Default)]
struct Known {
    scheme: Option<&'static str>,
    authorization: Option<String>,
}

impl<'a> Session<'a> {
    /// Reaches nothing yet.
    pub fn new(http: &'a HttpClient, reference: &'a Reference, auth: Option<&'a RegistryAuth>) -> Self {
        Self { http, reference, auth, known: Mutex::default() }
    }

    /// Gets a path of the registry, authenticating as it demands.
    pub async fn get(&self, path: &str, accept: Option<&str>) -> Result<Response> {
        let authorization = self.known.lock().await.authorization.clone();
        let had_some = authorization.is_some();
        let response = self.try_get(path, accept, authorization).await?;
        if response.status() != http::StatusCode::UNAUTHORIZED {
            return self.successful(response).await;
        }
        let challenges = challenges(&response);
        let refusal = self.refusal(response).await;
        // The token may have expired, or another request may have got one meanwhile.
        let answer = match self.answer(&challenges).await? {
            Some(answer) => answer,
            None => return Err(refusal),
        };
        if had_some && self.known.lock().await.authorization.as_ref() == Some(&answer) {
            return Err(refusal);
        }
        self.known.lock().await.authorization = Some(answer.clone());
        let response = self.try_get(path, accept, Some(answer)).await?;
        self.successful(response).await
    }

    fn error(&self, message: impl ToString) -> RuntimeError {
        RuntimeError::Pull { reference: self.reference.to_string(), message: message.to_string() }
    }

    async fn try_get(
        &self,
        path: &str,
        accept: Option<&str>,
        authorization: Option<String>,
    ) -> Result<Response> {
        let endpoint = self.reference.endpoint();
        let known = self.known.lock().await.scheme;
        let schemes: Vec<&'static str> = match known {
            Some(scheme) => vec![scheme],
            None => self.http.schemes(endpoint).to_vec(),
        };
        let mut last = String::new();
        for scheme in schemes {
            let target = Target {
                url: format!("{scheme}://{endpoint}{path}"),
                accept: accept.map(str::to_owned),
                authorization: authorization.clone(),
                form: None,
            };
            match self.http.request(&target).await {
                Ok(response) => {
                    self.known.lock().await.scheme = Some(scheme);
                    return Ok(response);
                }
                Err(e) => last = e,
            }
        }
        Err(self.error(last))
    }

    async fn successful(&self, response: Response) -> Result<Response> {
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refusal(response).await)
    }

    /// The registry's words, as an error.
    async fn refusal(&self, response: Response) -> RuntimeError {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Body {
            errors: Vec<Entry>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Entry {
            code: String,
            message: String,
        }
        let status = response.status();
        let body = collect(response, MAX_ANSWER).await.unwrap_or_default();
        let body: Body = serde_json::from_slice(&body).unwrap_or_default();
        let words: Vec<String> = body
            .errors
            .iter()
            .map(|e| format!("{}: {}", e.code.to_lowercase().replace('_', " "), e.message))
            .collect();
        let hint = match status.as_u16() {
            401 | 403 if self.auth.is_none() => {
                "; the repository does not exist or needs credentials (imagePullSecrets)"
            }
            401 | 403 => "; the credentials given are not accepted",
            _ => "",
        };
        let separator = if words.is_empty() { "" } else { ": " };
        RuntimeError::Registry {
            reference: self.reference.to_string(),
            status: status.as_u16(),
            message: format!(
                "registry {} answers {status}{separator}{}{hint}",
                self.reference.registry,
                words.join(", "),
            ),
        }
    }

    /// A value for `Authorization` that answers a challenge; None when we have none.
    async fn answer(&self, challenges: &[String]) -> Result<Option<String>> {
        let basic = self.auth.filter(|a| !a.username.is_empty() || !a.password.is_empty());
        let basic =
            basic.map(|a| format!("Basic {}", STANDARD.encode(format!("{}:{}", a.username, a.password))));
        for challenge in challenges {
            let (scheme, parameters) = challenge.split_once(' ').unwrap_or((challenge, ""));
            if scheme.eq_ignore_ascii_case("bearer") {
                return self.token(parameters, basic).await.map(Some);
            }
            if scheme.eq_ignore_ascii_case("basic") && basic.is_some() {
                return Ok(basic);
            }
        }
        Ok(None)
    }

    async fn token(&self, parameters: &str, basic: Option<String>) -> Result<String> {
        let find = |name: &str| parameter(parameters, name);
        let realm = find("realm").ok_or_else(|| self.error("the registry names no token service"))?;
        let default_scope = format!("repository:{}:pull", self.reference.repository);
        let scope = find("scope").unwrap_or(default_scope);
        let mut query = format!("scope={}", encode(&scope));
        if let Some(service) = find("service") {
            query = format!("service={}&{query}", encode(&service));
        }
        let identity = self.auth.map(|a| a.identity_token.as_str()).filter(|t| !t.is_empty());
        let target = match identity {
            Some(token) => Target {
                url: realm.clone(),
                form: Some(format!(
                    "grant_type=refresh_token&client_id=carrack&{query}&refresh_token={}",
                    encode(token)
                )),
                ..Target::default()
            },
            None => {
                let separator = if realm.contains('?') { '&' } else { '?' };
                let url = format!("{realm}{separator}{query}");
                Target { url, authorization: basic, ..Target::default() }
            }
        };
        let response = self.http.request(&target).await.map_err(|e| self.error(e))?;
        let response = self.successful(response).await?;
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Body {
            token: String,
            access_token: String,
        }
        let body = collect(response, MAX_ANSWER).await.map_err(|e| self.error(e))?;
        let body: Body = serde_json::from_slice(&body)
            .map_err(|e| self.error(format!("the token service's answer: {e}")))?;
        let token = if body.token.is_empty() { body.access_token } else { body.token };
        Ok(format!("Bearer {token}"))
    }
}

fn challenges(response: &Response) -> Vec<String> {
    let values = response.headers().get_all(http::header::WWW_AUTHENTICATE);
    values.iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect()
}

/// A parameter of a challenge: `name="value"` or `name=value`, with commas between.
fn parameter(parameters: &str, name: &str) -> Option<String> {
    let mut rest = parameters;
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_matches([',', ' ']);
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value.to_owned());
        }
        rest = next;
    }
    None
}

/// Percent-encoding of a query value.
fn encode(value: &str) -> String {
    let mut out = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters() {
        let text = r#"realm="https://auth.x/token",service=reg,scope="repository:a/b:pull,push""#;
        for (name, expect) in [
            ("realm", Some("https://auth.x/token")),
            ("service", Some("reg")),
            ("scope", Some("repository:a/b:pull,push")),
            ("error", None),
        ] {
            assert_eq!(parameter(text, name).as_deref(), expect, "{name}");
        }
        assert_eq!(parameter("realm=\"open", "realm"), None);
        assert_eq!(encode("a b+c/d:é"), "a%20b%2Bc/d:%C3%A9");
    }
}
