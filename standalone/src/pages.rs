//! The demo page and the browser SDK, embedded in the program: what `client/` builds, with the headers a page needs that
//! asks for camera and microphone. It knows nothing of calls.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rust_embed::RustEmbed;
use sha2::{Digest, Sha256};

#[derive(RustEmbed)]
#[folder = "../client/dist"]
struct Built;

/// The page served at `/`, and the operators' one at `/live`.
const INDEX: &str = "index.html";
const LIVE: &str = "live.html";

/// The SDK: pages of other origins may import it from here.
const SDK: &str = "sluice-client.js";

/// Sent with every file. Camera, microphone and screen are for this page and nothing it could embed; a room's link may
/// carry a token, so no other site is told of it.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(self), microphone=(self), display-capture=(self), autoplay=(self), fullscreen=(self), geolocation=()",
    ),
    // Names of files carry no version: a browser asks each time, and is mostly told that nothing has changed.
    (header::CACHE_CONTROL, "no-cache"),
];

/// One file, ready to be sent.
struct Page {
    body: &'static [u8],
    etag: HeaderValue,
    headers: HeaderMap,
}

/// A route per file.
pub(crate) fn routes() -> Router {
    Built::iter().fold(Router::new(), |router, name| {
        let Some(page) = Page::load(&name) else { return router };
        let page = Arc::new(page);
        let answer = move |request: HeaderMap| {
            let page = page.clone();
            async move { page.answer(&request) }
        };
        let router = match &*name {
            INDEX => router.route("/", get(answer.clone())),
            LIVE => router.route("/live", get(answer.clone())),
            _ => router,
        };
        router.route(&format!("/{name}"), get(answer))
    })
}

impl Page {
    fn load(name: &str) -> Option<Self> {
        let file = Built::get(name)?;
        // Embedded files are borrowed; the other case exists for builds that read them from disk.
        let body: &'static [u8] = match file.data {
            std::borrow::Cow::Borrowed(bytes) => bytes,
            std::borrow::Cow::Owned(bytes) => bytes.leak(),
        };
        let etag = format!("\"{}\"", STANDARD.encode(&file.metadata.sha256_hash()[..12]));
        let etag = HeaderValue::from_str(&etag).expect("invariant: base64 in quotes");
        let mut headers = HeaderMap::new();
        for (name, value) in HEADERS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(name)));
        if name == SDK {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
        if is_html(name) {
            let policy = content_security_policy(&String::from_utf8_lossy(body));
            let policy = HeaderValue::from_str(&policy).expect("invariant: base64 and our own words");
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        headers.insert(header::ETAG, etag.clone());
        Some(Self { body, etag, headers })
    }

    fn answer(&self, request: &HeaderMap) -> Response<Body> {
        let known = request.get_all(header::IF_NONE_MATCH).iter().any(|tags| {
            let tags = tags.to_str().unwrap_or_default().split(',');
            tags.map(|tag| tag.trim().trim_start_matches("W/")).any(|tag| tag.as_bytes() == self.etag.as_bytes())
        });
        let body = if known { Body::empty() } else { Body::from(self.body) };
        let mut response = Response::new(body);
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        *response.headers_mut() = self.headers.clone();
        response
    }
}

fn is_html(name: &str) -> bool {
    extension(name) == "html"
}

fn extension(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(_, extension)| extension)
}

fn content_type(name: &str) -> &'static str {
    match extension(name) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "json" | "map" | "webmanifest" => "application/json",
        "ts" | "txt" | "md" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// What the page may load and run: its own files, and its own inline blocks by their hash. `connect-src` lists the schemes of
/// web sockets, because not every browser counts them as 'self'.
fn content_security_policy(html: &str) -> String {
    let hashes = |tag: &str| inline(html, tag).map(hash).collect::<Vec<_>>().join(" ");
    format!(
        "default-src 'none'; script-src 'self' {}; style-src 'self' {}; img-src 'self' data: blob:; \
         media-src 'self' blob: mediastream:; font-src 'self'; connect-src 'self' ws: wss:; worker-src 'self' blob:; \
         manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        hashes("script"),
        hashes("style"),
    )
}

fn hash(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)))
}

/// The contents of the page's `<tag …>…</tag>` blocks. The pages are our own: no comment or string in them looks like one.
fn inline<'a>(html: &'a str, tag: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{tag}"), format!("</{tag}>"));
    let blocks: Vec<&str> = html.split(open.as_str()).skip(1).collect();
    blocks.into_iter().filter_map(move |block| {
        let (attributes, rest) = block.split_once('>')?;
        let (content, _) = rest.split_once(close.as_str())?;
        (!attributes.contains("src=") && !content.is_empty()).then_some(content)
    })
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn get_with(path: &str, etag: Option<&HeaderValue>) -> (StatusCode, HeaderMap, Vec<u8>) {
        let mut request = Request::get(path);
        if let Some(etag) = etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        let response = routes().oneshot(request.body(Body::empty()).expect("a request")).await.expect("infallible");
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 10 << 20).await.expect("a body");
        (parts.status, parts.headers, body.to_vec())
    }

    #[tokio::test]
    async fn the_pages_and_everything_they_name_are_served() {
        everything_is_served("/").await;
        everything_is_served("/live").await;
    }

    async fn everything_is_served(page: &str) {
        let (status, headers, body) = get_with(page, None).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
        let html = String::from_utf8(body).expect("text");
        let named = |attribute: &str| -> Vec<String> {
            let parts = html.split(attribute).skip(1);
            parts.filter_map(|part| part.split_once('"')).map(|(name, _)| name.to_owned()).collect()
        };
        let mut files = named("src=\"");
        let is_page = |name: &String| ["./", "live"].contains(&name.as_str());
        files.extend(named("href=\"").into_iter().filter(|name| !name.starts_with('#') && !is_page(name)));
        assert!(files.iter().any(|name| extension(name) == "js"), "{files:?}");
        for file in files {
            let (status, headers, body) = get_with(&format!("/{file}"), None).await;
            assert_eq!(status, StatusCode::OK, "{file}");
            assert!(!body.is_empty());
            assert_eq!(headers[header::CONTENT_TYPE], content_type(&file), "{file}");
            assert_ne!(headers[header::CONTENT_TYPE], "application/octet-stream", "{file}");
        }
    }

    #[tokio::test]
    async fn a_file_that_has_not_changed_is_not_sent_again() {
        let (_, headers, _) = get_with("/app.js", None).await;
        assert_eq!(headers[header::CACHE_CONTROL], "no-cache");
        let (status, _, body) = get_with("/app.js", Some(&headers[header::ETAG])).await;
        assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0));
        let other = HeaderValue::from_static("\"other\"");
        assert_eq!(get_with("/app.js", Some(&other)).await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn pages_say_what_they_may_load_and_who_may_frame_them() {
        for path in ["/", "/embed.html", "/live"] {
            let (_, headers, body) = get_with(path, None).await;
            let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().expect("text").to_owned();
            assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
            assert!(!policy.contains("unsafe"), "{policy}");
            let html = String::from_utf8(body).expect("text");
            for block in inline(&html, "script").chain(inline(&html, "style")) {
                assert!(policy.contains(&hash(block)), "{path}");
            }
            assert!(
                !html.contains(" style=\"") && !html.contains(" onclick=\""),
                "{path} needs what the policy forbids"
            );
            for (name, value) in HEADERS {
                assert_eq!(headers[&name], value);
            }
        }
    }

    #[tokio::test]
    async fn pages_elsewhere_may_import_the_sdk_and_read_nothing_else() {
        for (path, allowed) in [("/sluice-client.js", true), ("/", false), ("/app.js", false)] {
            let (_, headers, _) = get_with(path, None).await;
            assert_eq!(headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN), allowed, "{path}");
        }
    }

    #[tokio::test]
    async fn nothing_else_is_there() {
        for path in ["/nothing", "/../Cargo.toml", "/types/../index.html", "/%2e%2e/Cargo.toml"] {
            assert_eq!(get_with(path, None).await.0, StatusCode::NOT_FOUND, "{path}");
        }
    }

    #[test]
    fn inline_blocks_are_found_and_files_are_not() {
        let html = "<script src=\"a.js\"></script><style>a{}</style><script type=\"module\">b()</script>";
        assert_eq!(inline(html, "script").collect::<Vec<_>>(), ["b()"]);
        assert_eq!(inline(html, "style").collect::<Vec<_>>(), ["a{}"]);
        // The hash of an empty text, as every tool prints it.
        assert_eq!(hash(""), "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='");
    }

    #[test]
    fn what_is_embedded_is_what_is_on_disk() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../client/dist");
        let on_disk =
            std::fs::read_dir(root).expect("built").filter_map(Result::ok).filter(|entry| entry.path().is_file());
        for entry in on_disk {
            let name = entry.file_name().into_string().expect("plain names");
            let embedded = Built::get(&name).unwrap_or_else(|| panic!("{name} is not embedded"));
            assert_eq!(embedded.data, std::fs::read(entry.path()).expect("readable"), "{name}");
        }
    }
}
