//! What a token says: RFC 7519's claims and the private one, `kubernetes.io`.

use std::collections::BTreeMap;
use std::sync::Arc;

use carrack_api::Value;
use jiff::Timestamp;
use serde_json::{Map, json};

use crate::auth::{AUTHENTICATED, SERVICE_ACCOUNTS};
use crate::request::User;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// `iss`.
    pub issuer: String,
    /// `aud`; never empty.
    pub audiences: Vec<String>,
    /// `iat`.
    pub issued: Timestamp,
    /// `nbf`.
    pub not_before: Timestamp,
    /// `exp`.
    pub expires: Timestamp,
    /// `jti`: names the token in audit logs.
    pub id: Box<str>,
    /// Namespace of the service account.
    pub namespace: Box<str>,
    /// The service account.
    pub account: Ref,
    /// The pod that the token is bound to.
    pub pod: Option<Ref>,
    /// The secret that the token is bound to.
    pub secret: Option<Ref>,
    /// The node that the token is bound to or, with a pod, that the pod runs on.
    pub node: Option<Ref>,
    /// After this the token still counts, but its user should have had a newer one.
    pub warn_after: Option<Timestamp>,
}

/// An object, unmistakably.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ref {
    /// Its name.
    pub name: Box<str>,
    /// Its uid; empty only for the node of a pod when the node was gone.
    pub uid: Box<str>,
}

impl Claims {
    /// The user that the token makes.
    pub fn user(&self) -> User {
        let Self { namespace, account, .. } = self;
        let name = format!("system:serviceaccount:{namespace}:{}", account.name);
        let own = format!("{SERVICE_ACCOUNTS}:{namespace}");
        let mut user = User::new(&name, [SERVICE_ACCOUNTS, &own, AUTHENTICATED]);
        user.uid = (*account.uid).into();
        let mut extra = BTreeMap::<Box<str>, Vec<Box<str>>>::new();
        let mut add = |key: &str, value: &str| {
            if !value.is_empty() {
                extra.insert(format!("authentication.kubernetes.io/{key}").into(), vec![value.into()]);
            }
        };
        if !self.id.is_empty() {
            add("credential-id", &format!("JTI={}", self.id));
        }
        for (kind, reference) in [("pod", &self.pod), ("node", &self.node)] {
            if let Some(reference) = reference {
                add(&format!("{kind}-name"), &reference.name);
                add(&format!("{kind}-uid"), &reference.uid);
            }
        }
        user.extra = Arc::new(extra);
        user
    }

    /// The claims as JSON.
    pub fn to_value(&self) -> Value {
        let mut private = Map::new();
        private.insert("namespace".into(), (*self.namespace).into());
        private.insert("serviceaccount".into(), self.account.to_value());
        for (name, reference) in [("pod", &self.pod), ("secret", &self.secret), ("node", &self.node)] {
            if let Some(reference) = reference {
                private.insert(name.into(), reference.to_value());
            }
        }
        if let Some(time) = self.warn_after {
            private.insert("warnafter".into(), time.as_second().into());
        }
        json!({
            "iss": self.issuer, "aud": self.audiences, "jti": self.id,
            "iat": self.issued.as_second(), "nbf": self.not_before.as_second(), "exp": self.expires.as_second(),
            "sub": format!("system:serviceaccount:{}:{}", self.namespace, self.account.name),
            "kubernetes.io": private,
        })
    }

    /// Reads claims; `None` when a needed one is missing or of a wrong type.
    pub fn read(value: &Value) -> Option<Self> {
        let time = |value: &Value| Timestamp::from_second(value.as_i64()?).ok();
        let audiences = match &value["aud"] {
            Value::String(one) => vec![one.clone()],
            Value::Array(many) => {
                many.iter().map(|a| a.as_str().map(str::to_owned)).collect::<Option<_>>()?
            }
            _ => return None,
        };
        let private = value.get("kubernetes.io")?;
        let optional = |name: &str| match private.get(name) {
            None | Some(Value::Null) => Some(None),
            Some(value) => Ref::read(value).map(Some),
        };
        let claims = Self {
            issuer: value["iss"].as_str()?.to_owned(),
            audiences,
            issued: time(&value["iat"])?,
            not_before: time(&value["nbf"])?,
            expires: time(&value["exp"])?,
            id: value["jti"].as_str().unwrap_or_default().into(),
            namespace: private["namespace"].as_str()?.into(),
            account: Ref::read(private.get("serviceaccount")?)?,
            pod: optional("pod")?,
            secret: optional("secret")?,
            node: optional("node")?,
            warn_after: private.get("warnafter").and_then(time),
        };
        let subject = format!("system:serviceaccount:{}:{}", claims.namespace, claims.account.name);
        (value["sub"] == *subject).then_some(claims)
    }
}

impl Ref {
    fn read(value: &Value) -> Option<Self> {
        let text = |field: &str| value.get(field).and_then(Value::as_str);
        Some(Self { name: text("name")?.into(), uid: text("uid").unwrap_or_default().into() })
    }

    fn to_value(&self) -> Value {
        let mut value = json!({ "name": self.name });
        if !self.uid.is_empty() {
            value["uid"] = (*self.uid).into();
        }
        value
    }
}
