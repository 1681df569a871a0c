//! The name of an object in the store: `<resource>[.<group>]/<namespace>/<name>`.
//!
//! The namespace is empty for cluster-scoped kinds (`nodes//n1`). Keys order as
//! bytes, which is the order in which lists are answered. Namespaces and names
//! never hold a slash, so the three parts are unambiguous.

use std::fmt;
use std::sync::Arc;

/// A store key. Cheap to clone; orders and hashes as its text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<str>);

impl Key {
    /// The key of `name` in `namespace` (empty when cluster-scoped); `resource`
    /// is `pods` or `deployments.apps`.
    pub fn new(resource: &str, namespace: &str, name: &str) -> Self {
        let mut text = String::with_capacity(resource.len() + namespace.len() + name.len() + 2);
        text.push_str(resource);
        text.push('/');
        text.push_str(namespace);
        text.push('/');
        text.push_str(name);
        Self(text.into())
    }

    /// Reads a key back from its text; `None` unless it has its three parts.
    pub fn parse(text: &str) -> Option<Self> {
        (text.matches('/').count() == 2).then(|| Self(text.into()))
    }

    /// A place among keys, such as the prefix that all of a namespace share.
    pub fn at(text: &str) -> Self {
        Self(text.into())
    }

    /// The whole key.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The resource with its group, such as `pods` or `deployments.apps`.
    pub fn resource(&self) -> &str {
        self.parts().0
    }

    /// The namespace; empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        self.parts().1
    }

    /// The object's name.
    pub fn name(&self) -> &str {
        self.parts().2
    }

    fn parts(&self) -> (&str, &str, &str) {
        let mut parts = self.0.splitn(3, '/');
        let mut next = || parts.next().unwrap_or_default();
        (next(), next(), next())
    }
}

impl std::borrow::Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_read_back() {
        for (resource, namespace, name) in
            [("pods", "default", "web"), ("nodes", "", "n1"), ("deployments.apps", "a-b", "c.d")]
        {
            let key = Key::new(resource, namespace, name);
            assert_eq!((key.resource(), key.namespace(), key.name()), (resource, namespace, name));
            assert_eq!(Key::parse(key.as_str()), Some(key));
        }
        assert_eq!(Key::parse("pods/web"), None);
    }
}
