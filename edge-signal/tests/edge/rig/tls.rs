//! A TLS server with one page.

use std::net::SocketAddr;
use std::path::Path;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// It ends when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    handle: Handle<SocketAddr>,
}

impl Server {
    /// Serves this text at every path.
    pub(crate) fn start(cert: &Path, key: &Path, text: String) -> Self {
        let chain = CertificateDer::pem_file_iter(cert).expect("readable").map(|it| it.expect("PEM")).collect();
        let key = PrivateKeyDer::from_pem_file(key).expect("PEM");
        let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .expect("good");
        let listener = std::net::TcpListener::bind("127.0.0.1:0");
        let listener = listener.expect("bound");
        listener.set_nonblocking(true).expect("set");
        let address = listener.local_addr().expect("bound");
        let handle = Handle::new();
        let server = axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(config.into())).expect("bound");
        let routes = Router::new().fallback(move || std::future::ready(text.clone()));
        tokio::spawn(server.handle(handle.clone()).serve(routes.into_make_service()));
        Self { address, handle }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}
