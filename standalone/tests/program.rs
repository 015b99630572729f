//! The program `sluice` as people start it: flags, the ready line, the page, signalling up to an answer, tokens, the end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

/// Longest anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A running `sluice`; killed when dropped.
struct Sluice {
    child: Child,
    url: String,
}

fn sluice(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(arguments);
    command
}

const FREE_PORTS: [&str; 6] = ["--listen", "127.0.0.1:0", "--media-ip", "127.0.0.1", "--media-port", "0"];

impl Sluice {
    fn start(arguments: &[&str]) -> Self {
        let child = sluice(&[&FREE_PORTS, arguments].concat()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut sluice = Self { child: child.expect("started"), url: String::new() };
        let line = first_line(sluice.child.stdout.take().expect("piped"));
        let url = line.strip_prefix("ready: ").and_then(|url| url.strip_suffix('\n'));
        url.expect("ready: URL").clone_into(&mut sluice.url);
        sluice
    }

    fn address(&self) -> SocketAddr {
        let host = self.url.split('/').nth(2).expect("http://HOST:PORT/");
        host.parse().expect("HOST:PORT")
    }

    fn get(&self, path: &str) -> String {
        let stream = TcpStream::connect(self.address()).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        request(stream, path)
    }

    fn stop(mut self, signal: Signal) -> (Option<i32>, Duration) {
        let begun = Instant::now();
        kill_process(Pid::from_child(&self.child), signal).expect("sent");
        (ended(&mut self.child).code(), begun.elapsed())
    }
}

impl Drop for Sluice {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first line that is said on `stream`.
fn first_line(stream: impl Read + Send + 'static) -> String {
    let (tell, told) = mpsc::channel();
    // Ends with the program, if no line comes.
    thread::spawn(move || {
        let mut line = String::new();
        let _ = BufReader::new(stream).read_line(&mut line);
        tell.send(line)
    });
    told.recv_timeout(PATIENCE).expect("a line in time")
}

/// How it ended, which it must do by itself.
fn ended(child: &mut Child) -> ExitStatus {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("its own child") {
            return status;
        }
        assert!(Instant::now() < give_up, "it does not end");
        thread::sleep(Duration::from_millis(5));
    }
}

fn request(mut stream: impl Read + Write, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
    let mut response = Vec::new();
    // A server that closes without a TLS goodbye has still answered.
    let _ = stream.read_to_end(&mut response);
    String::from_utf8_lossy(&response).into_owned()
}

fn run(arguments: &[&str]) -> Output {
    sluice(arguments).output().expect("ran")
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A file that is gone when the test is.
fn file(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).expect("written");
    path.to_str().expect("a plain path").to_owned()
}

#[test]
fn it_prints_where_the_page_is_once_everything_works() {
    let sluice = Sluice::start(&[]);
    assert_eq!(sluice.url, format!("http://{}/", sluice.address()));
    let page = sluice.get("/");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("<title>Sluice</title>"), "{page}");
    for path in ["/healthz", "/readyz", "/metrics", "/app.js", "/rtc-config"] {
        assert!(sluice.get(path).starts_with("HTTP/1.1 200"), "{path}");
    }
    assert!(sluice.get("/nothing").starts_with("HTTP/1.1 404"));
}

#[test]
fn every_metric_shown_is_in_the_catalogue() {
    let catalogue = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md")).expect("read");
    let sluice = Sluice::start(&["--shards", "1"]);
    let metrics = sluice.get("/metrics");
    let names: Vec<&str> = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert!(names.iter().any(|name| name.starts_with("sluice_edge_")) && names.len() > 40, "{names:?}");
    for name in names {
        assert!(catalogue.contains(&format!("`{name}`")), "{name} is missing in docs/metrics.md");
    }
}

#[test]
fn the_number_of_shards_is_as_asked() {
    let sluice = Sluice::start(&["--shards", "3"]);
    let metrics = sluice.get("/metrics");
    let has = |shard| metrics.contains(&format!("sluice_sfu_rounds_total{{shard=\"{shard}\"}}"));
    assert!(has(0) && has(2) && !has(3), "{metrics}");
}

#[test]
fn it_ends_in_time_whether_asked_by_ctrl_c_or_by_a_supervisor() {
    for signal in [Signal::INT, Signal::TERM] {
        let (code, took) = Sluice::start(&["--shards", "2"]).stop(signal);
        assert_eq!(code, Some(0));
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
}

async fn ask<S>(socket: &mut S, method: &str, data: Value) -> Value
where
    S: SinkExt<Message> + StreamExt<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin,
    S::Error: std::fmt::Debug,
{
    let frame = json!({"request": true, "id": 7, "method": method, "data": data});
    socket.send(Message::text(frame.to_string())).await.expect("sent");
    loop {
        let message = tokio::time::timeout(Duration::from_secs(10), socket.next()).await.expect("in time");
        let Message::Text(text) = message.expect("open").expect("no error") else { continue };
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        if answer["id"] == 7 {
            return answer;
        }
    }
}

fn offer() -> String {
    let digest = vec!["AB"; 32].join(":");
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef01234567\r\n\
         a=fingerprint:sha-256 {digest}\r\na=setup:actpass\r\na=mid:0\r\na=sendonly\r\na=rtcp-mux\r\n\
         a=rtpmap:111 opus/48000/2\r\n"
    )
}

#[tokio::test]
async fn a_client_joins_and_publishes() {
    let sluice = Sluice::start(&["--shards", "1"]);
    let (mut socket, _) = connect_async(format!("ws://{}/ws?peer=ann", sluice.address())).await.expect("connected");
    assert_eq!(ask(&mut socket, "join", json!({"rid": "room"})).await["ok"], true);
    let publish = json!({
        "rid": "room", "jsep": {"type": "offer", "sdp": offer()},
        "minfo": {"audio": true, "audiotype": 0, "video": false, "videotype": 0}
    });
    let answer = ask(&mut socket, "publish", publish).await;
    assert_eq!(answer["ok"], true, "{answer}");
    let sdp = answer["data"]["jsep"]["sdp"].as_str().expect("an SDP");
    assert!(sdp.contains("a=ice-lite") && sdp.contains("127.0.0.1"), "{sdp}");
    assert!(sluice.get("/metrics").contains("sluice_sfu_publications"));
    // With a client connected it ends as fast.
    let (code, took) = sluice.stop(Signal::INT);
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn with_a_secret_a_client_needs_a_token_and_the_program_makes_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = file(directory.path(), "sluice.yaml", &format!("auth: {{hs256_secret: {SECRET}a}}\n"));
    let sluice = Sluice::start(&["--config", &config]);
    let output = run(&["token", "--peer", "ann", "--room", "room", "--config", &config]);
    assert!(output.status.success(), "{}", errors(&output));
    let token = String::from_utf8(output.stdout).expect("text").trim().to_owned();
    let url = format!("ws://{}/ws?peer=ann", sluice.address());
    let (mut socket, _) = connect_async(format!("{url}&access_token={token}")).await.expect("connected");
    assert_eq!(ask(&mut socket, "join", json!({"rid": "room"})).await["ok"], true);
    assert_eq!(ask(&mut socket, "join", json!({"rid": "other"})).await["errorCode"], 403);
    let (mut refused, _) = connect_async(url).await.expect("upgraded, to be told why not");
    match refused.next().await.expect("a frame").expect("no error") {
        Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), 4000),
        other => panic!("unexpected {other:?}"),
    }
}

/// A token that the program made, and its id.
fn made(arguments: &[&str]) -> (String, String) {
    let output = run(&[&["token", "--peer", "ann", "--room", "room"], arguments].concat());
    assert!(output.status.success(), "{}", errors(&output));
    let id = errors(&output).trim().rsplit(' ').next().expect("an id").to_owned();
    (String::from_utf8(output.stdout).expect("text").trim().to_owned(), id)
}

async fn closed(url: &str) -> (u16, String) {
    let (mut socket, _) = connect_async(url).await.expect("upgraded, to be told why not");
    loop {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.expect("in time");
        if let Message::Close(Some(frame)) = message.expect("a frame").expect("no error") {
            return (frame.code.into(), frame.reason.to_string());
        }
    }
}

#[test]
fn a_token_for_a_uid_or_a_room_that_no_edge_takes_is_not_made() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = file(directory.path(), "sluice.yaml", &format!("auth: {{hs256_secret: {SECRET}a}}\n"));
    let (longest, too_long) = ("é".repeat(128), "é".repeat(129));
    for (flag, peer, room) in [
        ("--peer", "", "r"),
        ("--peer", "ann/bob", "r"),
        ("--peer", "ann#1", "r"),
        ("--peer", "ann\n", "r"),
        ("--peer", &too_long, "r"),
        ("--room", "ann", ""),
        ("--room", "ann", "a/b"),
        ("--room", "ann", "a*b"),
        ("--room", "ann", "a**"),
        ("--room", "ann", &too_long),
    ] {
        let output = run(&["token", "--peer", peer, "--room", room, "--config", &config]);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(64), 0), "{peer:?} in {room:?}");
        let said = errors(&output);
        assert!(
            said.contains(flag) && (said.contains("not allowed") || said.contains("empty") || said.contains("128")),
            "{said}"
        );
    }
    assert!(run(&["token", "--peer", &longest, "--room", &longest, "--config", &config]).status.success());
}

#[tokio::test]
async fn access_can_be_revoked_by_token_and_by_peer() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = file(directory.path(), "sluice.yaml", &format!("auth: {{hs256_secret: {SECRET}a}}\n"));
    let sluice = Sluice::start(&["--shards", "1", "--config", &config]);
    let revoke = |arguments: &[&str]| run(&[&["revoke", "--url", &sluice.url], arguments].concat());
    let url = |token: &str| format!("ws://{}/ws?peer=ann&access_token={token}", sluice.address());
    let ((one, id), (two, _)) = (made(&["--config", &config]), made(&["--config", &config, "--id", "two"]));
    let (mut socket, _) = connect_async(url(&two)).await.expect("connected");
    let output = revoke(&["--token", &id, "--config", &config]);
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(closed(&url(&one)).await, (4000, "access revoked".to_owned()));
    assert_eq!(ask(&mut socket, "join", json!({"rid": "room"})).await["ok"], true, "the other one is good");
    let output = revoke(&["--peer", "ann", "--lifetime", "2h", "--config", &config]);
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(closed(&url(&two)).await, (4000, "access revoked".to_owned()));
    for (arguments, code, reason) in [
        (&["--peer", "ann"][..], 1, "401"),
        (&["--peer", "ann", "--lifetime", "1s", "--config", &config], 1, "lifetime: at least 1m"),
        (&["--peer", "ann", "--token", "t"], 64, "--token"),
        (&[], 64, "--peer"),
        (&["--peer", "a/b"], 64, "--peer"),
    ] {
        let output = revoke(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(errors(&output).contains(reason), "{arguments:?} gave {}", errors(&output));
    }
    let output = run(&["revoke", "--peer", "ann", "--url", "http://192.0.2.1/"]);
    assert!(output.status.code() == Some(64) && errors(&output).contains("https://"), "{}", errors(&output));
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Settings of edges on several machines as they are documented: most of their keys `sluice` does not know.
#[tokio::test]
async fn tokens_are_made_and_revoked_by_the_settings_of_any_edge() {
    let directory = tempfile::tempdir().expect("a directory");
    let here = directory.path();
    let secret = format!("{SECRET}a\n");
    for name in ["auth", "auth.secret"] {
        file(here, name, &secret);
    }
    let own = file(here, "sluice.yaml", &format!("auth: {{hs256_secret_file: {:?}}}\n", here.join("auth")));
    let sluice = Sluice::start(&["--shards", "1", "--config", &own]);
    let (readme, place) = (read("README.md"), here.to_str().expect("a plain path"));
    let example = readme.split("```yaml\n# edge.yaml").nth(1).and_then(|rest| rest.split("```").next());
    // Without the rest of the line that names it.
    let (_, example) = example.and_then(|it| it.split_once('\n')).expect("an example");
    let settings = [
        example.to_owned(),
        read("deploy/config/edge.yaml").replace("/run/secrets", place),
        read("deploy/examples/edge.yaml").replace("/run/credentials/edge-signal.service", place),
    ];
    for (index, settings) in settings.iter().enumerate() {
        assert!(settings.contains("\nredis:") && settings.contains("\netcd:"), "{settings}");
        file(here, "edge.yaml", settings);
        let peer = format!("ann-{index}");
        let run = |arguments: &[&str]| {
            let output = self::sluice(arguments).current_dir(here).output().expect("ran");
            assert!(output.status.success(), "{settings}: {}", errors(&output));
            String::from_utf8(output.stdout).expect("text").trim().to_owned()
        };
        let token = run(&["token", "--config", "edge.yaml", "--peer", &peer, "--room", "room"]);
        let url = format!("ws://{}/ws?peer={peer}&access_token={token}", sluice.address());
        let (mut socket, _) = connect_async(&url).await.expect("connected");
        assert_eq!(ask(&mut socket, "join", json!({"rid": "room"})).await["ok"], true);
        run(&["revoke", "--config", "edge.yaml", "--url", &sluice.url, "--peer", &peer]);
        assert_eq!(closed(&url).await, (4000, "access revoked".to_owned()));
    }
}

#[tokio::test]
async fn a_private_key_makes_tokens_that_its_public_half_lets_in_and_revokes_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let public = file(directory.path(), "public.pem", &pair.public_key_pem());
    let private = file(directory.path(), "private.pem", &pair.serialize_pem());
    let keys = format!("auth:\n  public_keys:\n  - {{kid: k1, algorithm: EdDSA, key_file: {public:?}}}\n");
    let config = file(directory.path(), "sluice.yaml", &keys);
    let sluice = Sluice::start(&["--shards", "1", "--config", &config]);
    let key = ["--key-file", &private, "--kid", "k1"];
    let (token, _) = made(&key);
    let url = format!("ws://{}/ws?peer=ann&access_token={token}", sluice.address());
    let (mut socket, _) = connect_async(&url).await.expect("connected");
    assert_eq!(ask(&mut socket, "join", json!({"rid": "room"})).await["ok"], true);
    let output = run(&[&["revoke", "--url", &sluice.url, "--peer", "ann"], &key[..]].concat());
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(closed(&url).await.0, 4000);
}

#[test]
fn with_a_certificate_it_speaks_https() {
    let directory = tempfile::tempdir().expect("a directory");
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = certificate.self_signed(&key).expect("signed");
    let cert_file = file(directory.path(), "cert.pem", &certificate.pem());
    let key_file = file(directory.path(), "key.pem", &key.serialize_pem());
    let sluice = Sluice::start(&["--tls-cert", &cert_file, "--tls-key", &key_file]);
    assert_eq!(sluice.url, format!("https://{}/", sluice.address()));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der().clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
    let name = "localhost".try_into().expect("a name");
    let session = rustls::ClientConnection::new(Arc::new(config), name).expect("a session");
    let stream = TcpStream::connect(sluice.address()).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    let page = request(rustls::StreamOwned::new(session, stream), "/");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("<title>Sluice</title>"), "{page}");
}

#[test]
fn others_are_not_let_in_by_accident() {
    let output = run(&["--listen", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(errors(&output).contains("--insecure-no-auth"), "{}", errors(&output));
    assert!(run(&["--listen", "0.0.0.0:0", "--insecure-no-auth", "--check-config"]).status.success());
}

#[test]
fn a_directory_for_recordings_that_cannot_be_made_is_found_by_checking_the_settings() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = file(directory.path(), "file", "");
    let output = run(&["--recordings", &format!("{file}/below"), "--check-config"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(errors(&output).contains("recording.url: "), "{}", errors(&output));
    let below = directory.path().join("below").display().to_string();
    assert!(run(&["--recordings", &below, "--check-config"]).status.success());
    assert!(!directory.path().join("below").exists(), "nothing is made by checking");
}

#[test]
fn ports_that_are_taken_are_named_with_what_to_do() {
    let holder = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = holder.local_addr().expect("bound").to_string();
    let output = run(&["--media-ip", "127.0.0.1", "--media-port", "0", "--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    let port = address.rsplit(':').next().expect("a port");
    assert!(
        errors(&output).contains(&format!("port {port}")) && errors(&output).contains("--listen"),
        "{}",
        errors(&output)
    );
    let directory = tempfile::tempdir().expect("a directory");
    let config = file(directory.path(), "sluice.yaml", &format!("admin_listen: {address}\n"));
    let output = run(&[&FREE_PORTS[..], &["--config", &config]].concat());
    assert!(errors(&output).contains("with admin_listen"), "{}", errors(&output));
    let holder = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let address = holder.local_addr().expect("bound");
    let port = address.port().to_string();
    let output = run(&["--listen", "127.0.0.1:0", "--media-ip", "127.0.0.1", "--media-port", &port]);
    assert_eq!(output.status.code(), Some(1));
    let text = errors(&output);
    assert!(text.contains(&address.to_string()) && text.contains("--media-port"), "{text}");
}

#[test]
fn what_is_not_usable_is_named_before_anything_starts() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = file(directory.path(), "sluice.yaml", "media:\n  shard: 2\n");
    let cases: [(&[&str], &str); 7] = [
        (&["--config", &config], "sluice.yaml:2: media.shard: unknown key"),
        (&["--shards", "0"], "media.shards: must be 1 to 63"),
        (&["--media-ip", "nowhere"], "neither an IP address nor auto"),
        (&["--tls-cert", "a.pem"], "tls.key"),
        (&["--tls-cert", "/nowhere/a.pem", "--tls-key", "b.pem"], "tls.cert: /nowhere/a.pem: No such file"),
        (&["--no-such-flag"], "--no-such-flag"),
        (&["token", "--peer", "ann", "--room", "r"], "SLUICE_AUTH__HS256_SECRET"),
    ];
    for (arguments, reason) in cases {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(errors(&output).contains(reason), "{arguments:?} gave {}", errors(&output));
    }
}

#[test]
fn settings_in_force_are_shown_without_secrets() {
    let output =
        sluice(&["--shards", "3", "--print-config"]).env("SLUICE_AUTH__HS256_SECRET", SECRET).output().expect("ran");
    let shown = String::from_utf8(output.stdout).expect("text");
    assert!(shown.contains("shards: 3") && shown.contains("***") && !shown.contains(SECRET), "{shown}");
}
