//! A stand-in for S3 that speaks its protocol: the server of moto, from `PyPI`, in the environment that `./test` makes under target/s3.
//! What it keeps is in its memory: it can be started late, hang and go on, but not come back with what it had.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{
    ports::free_port,
    process::{Process, until},
};

/// The bucket that is there once it has been started.
const BUCKET: &str = "recordings";
/// For one answer.
const ANSWER: Duration = Duration::from_secs(10);
/// A request without is one of the public's, to whom nothing is shown. It checks no signature.
const SIGNED: &str = "Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, \
                      SignedHeaders=host, Signature=0";

/// A store of objects.
#[derive(Debug)]
pub struct S3 {
    process: Option<Process>,
    port: u16,
    directory: TempDir,
}

impl S3 {
    /// A new one, with an empty bucket.
    pub async fn start() -> Self {
        let mut store = Self::not_started();
        store.start_empty().await;
        store
    }

    /// One that is not there: nobody listens at its address until it is started.
    pub fn not_started() -> Self {
        let directory = TempDir::with_prefix("s3-").expect("a temporary directory");
        Self { process: None, port: free_port(), directory }
    }

    /// Starts it with an empty bucket; returns when it serves.
    pub async fn start_empty(&mut self) {
        self.stop();
        let arguments = ["-H", "127.0.0.1", "-p", &self.port.to_string()].map(str::to_owned);
        self.process = Some(Process::start(&program(), &arguments, self.directory.path(), "s3.log"));
        until("the stand-in for S3 serves", async || self.request("PUT", "").await.is_some()).await;
    }

    /// Kills it, with all that it has.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Lets it hang: it keeps its sockets and answers nothing.
    pub fn pause(&self) {
        self.process.as_ref().expect("it runs").pause();
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.as_ref().expect("it runs").resume();
    }

    /// Where programs find it.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its bucket's name.
    pub fn bucket(&self) -> &'static str {
        BUCKET
    }

    /// What is in its bucket, at most 1,000: keys in order.
    pub async fn keys(&self) -> Vec<String> {
        let answer = self.request("GET", "?list-type=2").await.expect("the stand-in for S3 answers");
        let listing = String::from_utf8_lossy(&answer).into_owned();
        assert!(!listing.contains("<IsTruncated>true"), "more than one page of objects");
        let keys = listing.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
        keys.map(|key| key.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")).collect()
    }

    /// An object, if it is there.
    pub async fn object(&self, key: &str) -> Option<Vec<u8>> {
        self.request("GET", &format!("/{}", encoded(key))).await
    }

    /// The content of an answer with status 200.
    async fn request(&self, method: &str, path: &str) -> Option<Vec<u8>> {
        let asked = async {
            let mut socket = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
            let request = format!(
                "{method} /{BUCKET}{path} HTTP/1.0\r\nHost: 127.0.0.1\r\n{SIGNED}\r\nContent-Length: 0\r\n\r\n"
            );
            socket.write_all(request.as_bytes()).await.ok()?;
            let mut answer = Vec::new();
            socket.read_to_end(&mut answer).await.ok()?;
            let head = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
            let status = answer.split(|byte| *byte == b' ').nth(1)?;
            (status == b"200").then(|| answer.split_off(head + 4))
        };
        timeout(ANSWER, asked).await.ok().flatten()
    }
}

/// A key as a path, or a value as one of a query.
pub(crate) fn encoded(key: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    let encode = |byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    key.bytes().map(encode).collect()
}

fn program() -> String {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/s3/bin/moto_server");
    let path = std::env::var_os("TEST_MOTO_SERVER").map_or(target, PathBuf::from);
    assert!(path.exists(), "{} is not there: `./test` makes it, or TEST_MOTO_SERVER names another", path.display());
    path.display().to_string()
}
