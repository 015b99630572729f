//! A small HTTP client: one request, one answer of bounded size, one deadline. For the few places where an edge, or a tool of its,
//! asks somebody else something: a JWKS server, an edge's operator address. It follows no redirect, uses no proxy, keeps no
//! connection; plain HTTP is spoken to this machine only.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::time::timeout;

/// Longest a connection may take to be there, TLS not included: then another address of the host is tried.
const CONNECT_TIME: Duration = Duration::from_secs(2);

/// An address that may be asked: `https://`, or `http://` on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(Uri);

/// Not such an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be https://host[:port]/path, or http:// on this machine (127.0.0.1, [::1], localhost)")]
pub struct NotAnAddress;

impl Address {
    /// Reads it. Without user names, which would end up in logs.
    pub fn new(url: &str) -> Result<Self, NotAnAddress> {
        let uri: Uri = url.parse().map_err(|_| NotAnAddress)?;
        let authority = uri.authority().filter(|it| !it.as_str().contains('@')).ok_or(NotAnAddress)?;
        let is_fit = match uri.scheme_str() {
            Some("https") => !authority.host().is_empty(),
            Some("http") => crate::origin::is_of_this_machine(authority.host()),
            _ => false,
        };
        if is_fit && !url.contains('#') { Ok(Self(uri)) } else { Err(NotAnAddress) }
    }

    /// The same host, and this path on it.
    pub fn with_path(&self, path: &str) -> Result<Self, NotAnAddress> {
        let mut parts = self.0.clone().into_parts();
        parts.path_and_query = Some(path.parse().map_err(|_| NotAnAddress)?);
        Uri::from_parts(parts).map(Self).map_err(|_| NotAnAddress)
    }
}

/// Without the query: some servers are asked with a key in it, and this is what logs and whoever asks `/readyz` are shown.
impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (scheme, authority) = (self.0.scheme_str().unwrap_or_default(), self.0.authority());
        write!(f, "{scheme}://{}{}", authority.map_or("", |it| it.as_str()), self.0.path())
    }
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum HttpsError {
    /// No usable certificates to trust.
    #[error("no certificates to trust: {0}")]
    Trust(String),
    /// No connection, or it broke.
    #[error("{0}")]
    Unreachable(String),
    /// The access token is none.
    #[error("the access token cannot be sent")]
    Token,
    /// The deadline passed.
    #[error("no answer in {0:?}")]
    Late(Duration),
    /// The body is longer than was allowed.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status, whatever it is.
    pub status: StatusCode,
    /// The whole body.
    pub body: Bytes,
}

/// How much may be waited for.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// For everything: name, connection, TLS, the whole answer.
    pub time: Duration,
    /// Bytes of the answer's body.
    pub body: usize,
}

/// The client.
#[derive(Clone)]
pub struct HttpsClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl HttpsClient {
    /// Trusts the certificates in this PEM file; without one, those the system trusts.
    pub fn new(trusted: Option<&Path>) -> Result<Self, HttpsError> {
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| HttpsError::Trust(error.to_string()))?
            .with_root_certificates(roots(trusted)?)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(CONNECT_TIME));
        tcp.enforce_http(false);
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let client =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector.wrap_connector(tcp));
        Ok(Self { client })
    }

    /// Asks with `GET`.
    pub async fn get(&self, address: &Address, bounds: Bounds) -> Result<Answer, HttpsError> {
        self.ask(Method::GET, address, HeaderMap::new(), Bytes::new(), bounds).await
    }

    /// Asks with `POST`, a JSON body and an access token.
    pub async fn post_json(
        &self,
        address: &Address,
        body: &serde_json::Value,
        token: Option<&str>,
        bounds: Bounds,
    ) -> Result<Answer, HttpsError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(token) = token {
            let value = HeaderValue::try_from(format!("Bearer {token}"));
            headers.insert(header::AUTHORIZATION, value.map_err(|_| HttpsError::Token)?);
        }
        self.ask(Method::POST, address, headers, body.to_string().into(), bounds).await
    }

    /// Asks once.
    pub async fn ask(
        &self,
        method: Method,
        address: &Address,
        headers: HeaderMap,
        body: Bytes,
        bounds: Bounds,
    ) -> Result<Answer, HttpsError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = address.0.clone();
        *request.headers_mut() = headers;
        timeout(bounds.time, self.answer(request, bounds.body)).await.unwrap_or(Err(HttpsError::Late(bounds.time)))
    }

    async fn answer(&self, request: Request<Full<Bytes>>, most: usize) -> Result<Answer, HttpsError> {
        let response = self.client.request(request).await.map_err(|error| broken(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, most).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() { HttpsError::TooLong(most) } else { broken(&*error) }
        })?;
        Ok(Answer { status: head.status, body: body.to_bytes() })
    }
}

/// With its causes: the outermost error only says that something failed.
fn broken(error: &dyn std::error::Error) -> HttpsError {
    let causes = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    HttpsError::Unreachable(causes.collect::<Vec<_>>().join(": "))
}

/// What is trusted.
pub(crate) fn roots(trusted: Option<&Path>) -> Result<RootCertStore, HttpsError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = trusted else {
        // Some of a system's certificates may be unreadable for whoever we run as: the others count.
        let found = rustls_native_certs::load_native_certs();
        let (taken, _) = roots.add_parsable_certificates(found.certs);
        tracing::debug!(taken, unusable = found.errors.len(), "the system's certificates");
        return Ok(roots);
    };
    let unusable = |reason: String| HttpsError::Trust(format!("{}: {reason}", path.display()));
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))? {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() { Err(unusable("holds no certificate in PEM".to_owned())) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_only_and_names_are_in_no_address() {
        for good in
            ["https://id.example/keys", "https://id.example:8443/a?b=c", "http://127.0.0.1:1/x", "http://[::1]:1"]
        {
            assert!(Address::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "id.example/keys",
            "http://id.example/keys",
            "http://127.0.0.1.evil.example/",
            "http://10.0.0.1/",
            "ftp://127.0.0.1/",
            "https://",
            "https:///keys",
            "https://user:word@id.example/",
            "http://user@127.0.0.1/",
            "https://id.example/#x",
            "/keys",
        ] {
            assert_eq!(Address::new(bad), Err(NotAnAddress), "{bad}");
        }
    }

    #[test]
    fn what_is_shown_of_an_address_has_no_query() {
        for (url, shown) in [
            ("https://id.example:8443/keys?api_key=hunter2&x=?", "https://id.example:8443/keys"),
            ("https://id.example?api_key=hunter2", "https://id.example/"),
            ("http://[::1]:1/a/b", "http://[::1]:1/a/b"),
        ] {
            assert_eq!(Address::new(url).expect("good").to_string(), shown);
        }
    }

    #[test]
    fn a_path_goes_to_the_same_host() {
        let address = Address::new("http://127.0.0.1:9080/").expect("good").with_path("/revoke").expect("good");
        assert_eq!(address.to_string(), "http://127.0.0.1:9080/revoke");
    }
}
