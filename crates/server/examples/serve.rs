//! scratch
use carrack_server::pki::{Names, Pki};
use carrack_server::seams::*;
use carrack_server::*;
use carrack_store::{Limits, Local};
use futures::future::BoxFuture;
use std::sync::Arc;
struct Allow;
impl Authorizer for Allow {
    fn authorize<'a>(&'a self, _: &'a User, _: &'a Attributes) -> BoxFuture<'a, Decision> {
        Box::pin(std::future::ready(Decision::Allow(String::new())))
    }
}
struct Any;
impl Authenticator for Any {
    fn authenticate<'a>(
        &'a self,
        _: &'a http::request::Parts,
        peer: Option<&'a PeerCertificates>,
    ) -> BoxFuture<'a, Result<Option<User>, carrack_api::status::Status>> {
        let user = peer.map(|p| p.user.get_or_init(|| User::new("admin", ["system:authenticated"])).clone());
        Box::pin(std::future::ready(Ok(user)))
    }
}
fn main() {
    let dir = std::path::PathBuf::from(std::env::args().nth(1).unwrap());
    let port: u16 = std::env::args().nth(2).unwrap().parse().unwrap();
    std::fs::create_dir_all(&dir).unwrap();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(
        async move {
            let began = std::time::Instant::now();
            let names = Names {
                url: format!("https://127.0.0.1:{port}"),
                domain: "cluster.local".into(),
                ..Names::default()
            };
            let pki = Pki::open_or_create(&dir.join("pki"), names, jiff::Timestamp::now()).unwrap();
            let store: Arc<dyn carrack_store::Store> = if std::env::args().nth(3).as_deref() == Some("memory")
            {
                Arc::new(Local::memory(Limits::default()))
            } else {
                Arc::new(Local::sqlite(&dir.join("store.db"), Limits::default()).unwrap())
            };
            let server = Server::builder(store, carrack_api::kinds::builtin())
                .authenticator(Arc::new(Any))
                .authorizer(Arc::new(Allow))
                .build();
            let id = pki.identity("admin", "system:masters", jiff::Timestamp::now()).unwrap();
            std::fs::write(dir.join("kubeconfig"), pki.kubeconfig("admin", &id)).unwrap();
            std::fs::write(dir.join("cert.pem"), &id.certificate).unwrap();
            std::fs::write(dir.join("key.pem"), &id.key).unwrap();
            let tls = pki.server_config(Arc::new(SystemClock)).unwrap();
            let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
            eprintln!("ready after {:?}", began.elapsed());
            carrack_server::http::listen::serve(server, listener, Arc::new(tls), Default::default(), async {
                tokio::signal::ctrl_c().await.unwrap()
            })
            .await
            .unwrap();
        },
    );
}
