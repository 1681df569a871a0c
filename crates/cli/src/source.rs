//! The in-process doors to the server: reads that share its records, and clients
//! whose requests go straight into its service under an identity of their own.
//!
//! Who subscribes has been authorized once, by whoever handed the source out: it is
//! given to components of this process only. Writes take the whole pipeline.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use carrack_api::selector::{Fields, Labels};
use carrack_client::{Client, Clients, Identity, Resource, Scope, Source, Update};
use carrack_server::registry::{Item, Registry, Scope as Selected, Seen, Start, Watcher};
use carrack_server::{Server, User};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::Request;
use kube::client::Body;

/// How long to wait before asking again for a kind that is not served (yet).
const RETRY: Duration = Duration::from_secs(1);

/// Reads from the registry of this process.
pub struct InProcess {
    registry: Arc<Registry>,
}

impl InProcess {
    /// A source over a server's registry.
    pub fn over(server: &Server) -> Arc<dyn Source> {
        Arc::new(Self { registry: server.registry().clone() })
    }
}

/// One subscription's state between two updates.
struct Subscription {
    registry: Arc<Registry>,
    resource: Resource,
    scope: Scope,
    watcher: Option<Watcher>,
    pending: VecDeque<Item>,
    records: Vec<Arc<carrack_api::Record>>,
}

impl Source for InProcess {
    fn subscribe(&self, resource: &Resource, scope: Scope) -> BoxStream<'static, Update> {
        let subscription = Subscription {
            registry: self.registry.clone(),
            resource: resource.clone(),
            scope,
            watcher: None,
            pending: VecDeque::new(),
            records: Vec::new(),
        };
        let step = |mut subscription: Subscription| async move {
            let update = subscription.next().await;
            Some((update, subscription))
        };
        futures::stream::unfold(subscription, step).boxed()
    }
}

impl Subscription {
    async fn next(&mut self) -> Update {
        loop {
            while let Some(item) = self.pending.pop_front() {
                match item {
                    Item::Initial(record) => self.records.push(record),
                    Item::InitialEnd(revision) => {
                        return Update::Reset { records: std::mem::take(&mut self.records), revision };
                    }
                    Item::Event(seen, event) => {
                        let (record, revision) = (event.record.clone(), event.revision);
                        return match seen {
                            Seen::Added | Seen::Modified => Update::Changed { record, revision },
                            Seen::Deleted => Update::Deleted { record, revision },
                        };
                    }
                }
            }
            let Some(watcher) = &mut self.watcher else {
                self.start().await;
                continue;
            };
            match watcher.next().await {
                Ok(items) => self.pending = items,
                // Too slow for the history: start over with everything.
                Err(_) => self.watcher = None,
            }
        }
    }

    async fn start(&mut self) {
        self.records.clear();
        match self.watch().await {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(reason) => {
                tracing::debug!(resource = %self.resource.store, %reason, "cannot subscribe yet");
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn watch(&self) -> Result<Watcher, String> {
        let kind = self.registry.kinds().stored(&self.resource.store).cloned().ok_or("not served")?;
        let labels = self.scope.labels.as_deref().map(Labels::parse).transpose();
        let fields = self.scope.fields.as_deref().map(Fields::parse).transpose();
        let selected = Selected {
            kind: Some(kind),
            namespace: self.scope.namespace.as_deref().unwrap_or_default().into(),
            labels: labels.map_err(|error| error.to_string())?,
            fields: fields.map_err(|error| error.to_string())?,
        };
        let start = Start::Initial { fresh: false };
        self.registry.watch(selected, start).await.map_err(|status| status.message)
    }
}

/// Makes clients whose requests enter the server as the given identity.
pub fn clients(server: &Server) -> Clients {
    let server = server.clone();
    Arc::new(move |identity: &Identity| {
        let user = User::new(&identity.user, &identity.groups);
        let manager = identity.user.rsplit(':').next().unwrap_or(&identity.user).to_owned();
        Client::over(Identified { server: server.clone(), user }, &manager)
    })
}

/// The server's service with a user among the extensions of every request.
struct Identified {
    server: Server,
    user: User,
}

impl tower::Service<Request<Body>> for Identified {
    type Response = <Server as tower::Service<Request<Body>>>::Response;
    type Error = <Server as tower::Service<Request<Body>>>::Error;
    type Future = <Server as tower::Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        tower::Service::<Request<Body>>::poll_ready(&mut self.server, cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.extensions_mut().insert(self.user.clone());
        self.server.call(request)
    }
}
