//! What must never stand in the log is looked for in all that is logged of a call at the most talkative level.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

const PATIENCE: Duration = Duration::from_secs(20);
const AUTH_SECRET: &str = "auth-secret-that-nobody-may-read-0123456789";
const UFRAG: &str = "uFrAgSeCrEt";
const PWD: &str = "iCePwDsEcReT0123456789ab";
const BODY: &str = "bOdY-oF-a-bRoAdCaSt";

/// Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sluice(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(arguments).env("SLUICE_AUTH__HS256_SECRET", AUTH_SECRET);
    command
}

fn token(peer: &str) -> String {
    let output = sluice(&["token", "--peer", peer, "--room", "room"]).output().expect("runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// All lines of a stream, as they come, until it ends.
fn lines(stream: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    told
}

fn offer(direction: &str, fingerprint: &str) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:{UFRAG}\r\na=ice-pwd:{PWD}\r\n\
         a=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\na=mid:0\r\na={direction}\r\na=rtcp-mux\r\n\
         a=rtpmap:111 opus/48000/2\r\n"
    )
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn ask(socket: &mut Socket, method: &str, data: Value) -> Value {
    let frame = json!({"request": true, "id": 7, "method": method, "data": data});
    socket.send(Message::text(frame.to_string())).await.expect("sent");
    loop {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.expect("in time");
        let Message::Text(text) = message.expect("open").expect("no error") else { continue };
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        if answer["id"] == 7 {
            return answer;
        }
    }
}

/// A call with all that is secret in it; gives the secrets that only the server could choose, too.
async fn call(address: &str, fingerprint: &str, tokens: &[String; 2]) -> Vec<String> {
    let mut made = Vec::new();
    let (mut ann, _) =
        connect_async(format!("ws://{address}/ws?peer=ann&access_token={}", tokens[0])).await.expect("connected");
    let mut request = format!("ws://{address}/ws?peer=bob").into_client_request().expect("a request");
    request.headers_mut().insert("Authorization", format!("Bearer {}", tokens[1]).parse().expect("a header"));
    let (mut bob, _) = connect_async(request).await.expect("connected");
    for socket in [&mut ann, &mut bob] {
        let joined = ask(socket, "join", json!({"rid": "room"})).await;
        made.push(joined["data"]["session"].as_str().expect("a session").to_owned());
    }
    let minfo = json!({"audio": true, "audiotype": 0, "video": false, "videotype": 0});
    let jsep = json!({"type": "offer", "sdp": offer("sendonly", fingerprint)});
    let published = ask(&mut ann, "publish", json!({"rid": "room", "jsep": jsep, "minfo": minfo})).await;
    assert_eq!(published["ok"], true, "{published}");
    let jsep = json!({"type": "offer", "sdp": offer("recvonly", fingerprint)});
    let mid = &published["data"]["mid"];
    let subscribed = ask(&mut bob, "subscribe", json!({"rid": "room", "mid": mid, "jsep": jsep})).await;
    assert_eq!(subscribed["ok"], true, "{subscribed}");
    for answer in [&published, &subscribed] {
        let sdp = answer["data"]["jsep"]["sdp"].as_str().expect("an SDP");
        let secret = |line: &str| {
            ["a=ice-pwd:", "a=fingerprint:sha-256 "].iter().find_map(|name| line.strip_prefix(name).map(str::to_owned))
        };
        made.extend(sdp.lines().filter_map(secret));
    }
    assert_eq!(ask(&mut ann, "broadcast", json!({"rid": "room", "data": {"text": BODY}})).await["ok"], true);
    // What is wrong is told in reasons, which quote what was sent.
    let refresh = json!({"access_token": format!("{}x", tokens[0])});
    assert_eq!(ask(&mut ann, "refresh", refresh).await["ok"], false);
    let jsep =
        json!({"type": "offer", "sdp": format!("{}a=ice-pwd:{PWD}\r\nno line\r\n", offer("sendonly", "no digest"))});
    assert_eq!(ask(&mut ann, "publish", json!({"rid": "room", "jsep": jsep, "minfo": minfo})).await["ok"], false);
    assert_eq!(ask(&mut bob, "leave", json!({"rid": "room"})).await["ok"], true);
    made
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_of_a_call_is_logged_at_any_level() {
    let fingerprint = vec!["5E"; 32].join(":");
    for format in ["json", "text"] {
        let arguments = ["--listen", "127.0.0.1:0", "--media-ip", "127.0.0.1", "--media-port", "0", "--shards", "1"];
        let mut command = sluice(&arguments);
        command.env("SLUICE_LOG__LEVEL", "trace,h2=trace,hyper=trace,tungstenite=trace,sfu_core=trace");
        command.env("SLUICE_LOG__FORMAT", format).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Running(command.spawn().expect("runs"));
        let out = lines(running.0.stdout.take().expect("piped"));
        let err = lines(running.0.stderr.take().expect("piped"));
        let mut logged = Vec::new();
        let address = loop {
            let line = out.recv_timeout(PATIENCE).expect("it becomes ready");
            if let Some(url) = line.strip_prefix("ready: http://") {
                break url.trim_end_matches('/').to_owned();
            }
            logged.push(line);
        };
        let tokens = [token("ann"), token("bob")];
        let made = call(&address, &fingerprint, &tokens).await;
        kill_process(Pid::from_child(&running.0), Signal::TERM).expect("sent");
        logged.extend(out.iter());
        logged.extend(err.iter());
        let is_told = |what: &str| logged.iter().any(|line| line.contains(what));
        assert!(is_told("joined") && is_told("negotiated"), "it does log the call: {}", logged.join("\n"));
        assert!(logged.len() > 10 && made.len() >= 6, "{made:?}");
        let known = [AUTH_SECRET, UFRAG, PWD, BODY, &fingerprint, &tokens[0], &tokens[1]].map(str::to_owned);
        for secret in known.iter().chain(&made) {
            let line = logged.iter().find(|line| line.contains(secret.as_str()));
            assert!(line.is_none(), "{secret} in {line:?}");
        }
        if format == "json" {
            carry_one_id(&logged);
            are_about_their_room(&logged);
        }
    }
}

/// The node's line of a publish has the id of the edge's.
fn carry_one_id(logged: &[String]) {
    let objects: Vec<Value> = logged.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(objects.len(), logged.len(), "each line is one object: {logged:?}");
    let trace = |message: &str, method: Option<&str>| {
        let of =
            |line: &&Value| line["message"] == message && method.is_none_or(|method| line["sluice.method"] == method);
        objects.iter().find(of).and_then(|line| line["trace.id"].as_str()).map(str::to_owned)
    };
    let edge = trace("answered", Some("publish")).expect("an id");
    assert_eq!(edge.len(), 32);
    assert_eq!(trace("negotiated", None), Some(edge));
    let joined = objects.iter().find(|line| line["message"] == "joined").expect("logged");
    assert_eq!((&joined["sluice.room"], &joined["sluice.peer"]), (&"room".into(), &"ann".into()));
}

/// What is said of a request has its room, which is the lines' key in Kafka, and its stream once there is one.
fn are_about_their_room(logged: &[String]) {
    let objects = logged.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let answered: Vec<Value> = objects.filter(|line| line["message"] == "answered").collect();
    let methods: Vec<_> = answered.iter().filter_map(|line| line["sluice.method"].as_str()).collect();
    assert_eq!(methods, ["join", "join", "publish", "subscribe", "broadcast", "refresh", "publish", "leave"]);
    for line in &answered {
        assert_eq!(line["sluice.room"], "room", "{line}");
        assert!(line["sluice.peer"].is_string(), "{line}");
    }
    assert!(answered[2]["sluice.mid"].is_string() && answered[3]["sluice.mid"] == answered[2]["sluice.mid"]);
}
