//! The program itself: its arguments, its exit codes, and its end.

use std::env;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longest anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// By this `./test` finds what it has started.
const RUN_MARK: &str = "TEST_RUN_MARK";

fn program(config: &str, arguments: &[&str]) -> (tempfile::NamedTempFile, Command) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), config).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_edge-signal"));
    command.arg("--config").arg(file.path()).args(arguments).env_clear();
    command.envs(env::var_os(RUN_MARK).map(|mark| (RUN_MARK, mark)));
    (file, command)
}

fn run(config: &str, arguments: &[&str]) -> (i32, String, String) {
    let (_file, mut command) = program(config, arguments);
    let output = command.output().expect("runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("ended by itself"), text(output.stdout), text(output.stderr))
}

#[test]
fn unusable_settings_are_named_before_anything_starts() {
    for (config, named) in [
        ("listn: 127.0.0.1:0\n", ":1: listn: unknown"),
        ("listen: 127.0.0.1:0\nsession: {ttl: soon}\n", ":2: session.ttl: "),
        ("listen: 0.0.0.0:0\n", ":1: listen: "),
        ("auth: {hs256_secret: short}\n", ":1: auth.hs256_secret: "),
        (
            "auth:\n  public_keys:\n  - algorithm: EdDSA\n    key: prose\n",
            ":4: auth.public_keys.0.key: holds no public key in PEM",
        ),
        ("auth:\n  public_keys:\n  - algorithm: HS256\n    key: prose\n", ":3: auth.public_keys.0.algorithm: "),
        (
            "auth:\n  public_keys:\n  - algorithm: RS256\n    key_file: /nowhere/key.pem\n",
            ":4: auth.public_keys.0.key_file: /nowhere/key.pem: No such file",
        ),
        ("auth:\n  jwks_url: http://id.example/keys\n", ":2: auth.jwks_url: must be https://"),
    ] {
        for arguments in [&[] as &[&str], &["--check-config"]] {
            let (code, _, stderr) = run(config, arguments);
            assert_eq!(code, 64, "{config}");
            assert!(stderr.contains(named), "{config} gave {stderr}");
        }
    }
    assert_eq!(run("", &["--nonsense"]).0, 64);
}

#[test]
fn good_settings_can_be_checked_and_shown() {
    assert_eq!(run("", &["--check-config"]), (0, String::new(), String::new()));
    let (code, shown, _) = run("auth: {hs256_secret: 0123456789abcdef0123456789abcdef}\n", &["--print-config"]);
    assert_eq!(code, 0);
    assert!(shown.contains("admin_listen: 127.0.0.1:9080") && !shown.contains("0123456789abcdef"), "{shown}");
}

#[test]
fn files_that_cannot_be_used_are_named_before_anything_starts() {
    let secret = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(secret.path(), "short\n").expect("written");
    for (config, named) in [
        (format!("auth: {{hs256_secret_file: {:?}}}\n", secret.path()), "has 5 bytes, at least 32 are needed"),
        ("auth: {hs256_secret_file: /nowhere/secret}\n".to_owned(), "/nowhere/secret: No such file"),
        ("tls: {cert: /nowhere/cert.pem, key: /nowhere/key.pem}\n".to_owned(), "/nowhere/cert.pem: No such file"),
        (format!("tls: {{cert: {0:?}, key: {0:?}}}\n", secret.path()), "holds no certificate in PEM"),
    ] {
        for arguments in [&[] as &[&str], &["--check-config"]] {
            let (code, _, stderr) = run(&config, arguments);
            assert_eq!(code, 64, "{config}");
            assert!(stderr.contains(":1: ") && stderr.contains(named), "{config} gave {stderr}");
        }
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The first address in its log.
fn where_it_listens(log: impl Read + Send + 'static) -> SocketAddr {
    let (tell, told) = mpsc::channel();
    // Reads on, so that the program can write on, until it ends.
    thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            if let Some((_, rest)) = line.split_once(r#""sluice.address":""#) {
                let _ = tell.send(rest.split('"').next().unwrap_or_default().to_owned());
            }
        }
    });
    told.recv_timeout(PATIENCE).expect("it says where it listens").parse().expect("an address")
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

#[test]
fn it_serves_until_a_signal_and_ends_in_two_seconds() {
    let (_file, mut command) = program("listen: 127.0.0.1:0\nadmin_listen: 127.0.0.1:0\nlog: {format: json}\n", &[]);
    let mut running = Running(command.stdout(Stdio::piped()).spawn().expect("runs"));
    let address = where_it_listens(running.0.stdout.take().expect("piped"));
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.write_all(b"GET /rtc-config HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("readable");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let start = Instant::now();
    kill_process(Pid::from_child(&running.0), Signal::TERM).expect("sent");
    assert!(ended(&mut running.0).success());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn it_tells_a_healthcheck_whether_the_one_beside_it_is_alive() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let admin = free.local_addr().expect("bound");
    drop(free);
    let config = format!("listen: 127.0.0.1:0\nadmin_listen: 0.0.0.0:{}\nlog: {{format: json}}\n", admin.port());
    let (code, _, stderr) = run(&config, &["--healthy"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("refused"), "{stderr}");
    let (_file, mut command) = program(&config, &[]);
    let mut running = Running(command.stdout(Stdio::piped()).spawn().expect("runs"));
    where_it_listens(running.0.stdout.take().expect("piped"));
    assert_eq!(run(&config, &["--healthy"]), (0, String::new(), String::new()));
}

#[test]
fn a_server_that_is_ill_or_none_of_ours_is_not_alive() {
    for said in ["HTTP/1.0 503 Service Unavailable\r\n\r\n", "SSH-2.0-OpenSSH_9.2p1\r\n", ""] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let config = format!("admin_listen: {}\n", listener.local_addr().expect("bound"));
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("asked");
            stream.write_all(said.as_bytes()).expect("taken");
        });
        assert_eq!(run(&config, &["--healthy"]).0, 1, "{said}");
        server.join().expect("no panic");
    }
}

#[test]
fn it_is_called_as_its_machine_where_the_settings_say_so() {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("readable");
    let machine = machine.trim().split('.').next().expect("a name");
    let (code, shown, stderr) = run("id: auto\n", &["--print-config"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(shown.lines().any(|line| line.replace('\'', "") == format!("id: {machine}")), "{shown}");
}

/// A Redis that lets nobody in.
fn refusing_redis() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut asked = [0; 1024];
                while stream.read(&mut asked).is_ok_and(|count| count > 0) {
                    if stream.write_all(b"-WRONGPASS invalid username-password pair\r\n").is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Each service that it has a secret for fails, and is told of in the log.
#[test]
fn no_secret_of_its_settings_is_logged_at_any_level() {
    const SECRETS: [&str; 5] = ["rEdIs-SeCrEt", "eTcD-SeCrEt", "kAfKa-SeCrEt", "aUtH-SeCrEt", "sEsSiOn-SeCrEt"];
    let [redis, etcd, kafka, auth, session] = SECRETS;
    let padding = "0123456789".repeat(4);
    let config = format!(
        "id: edge-1\nlisten: 127.0.0.1:0\nadmin_listen: 127.0.0.1:0\n\
         log: {{format: json, level: 'trace,redis=trace,h2=trace,hyper=trace,librdkafka=trace'}}\n\
         redis: {{url: 'redis://user:{redis}@{}'}}\n\
         etcd: {{endpoints: ['http://127.0.0.1:1'], username: edge, password: {etcd}}}\n\
         kafka: {{brokers: ['127.0.0.1:1'], security.protocol: sasl_plaintext, sasl.mechanism: PLAIN, sasl.username: edge, \
         sasl.password: {kafka}}}\n\
         auth: {{hs256_secret: {auth}{padding}}}\nsession: {{secret: {session}{padding}}}\n",
        refusing_redis()
    );
    let (_file, mut command) = program(&config, &[]);
    let mut running = Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs"));
    let (tell, told) = mpsc::channel();
    let (out, err) = (running.0.stdout.take().expect("piped"), running.0.stderr.take().expect("piped"));
    for stream in [Box::new(out) as Box<dyn Read + Send>, Box::new(err)] {
        let tell = tell.clone();
        thread::spawn(move || {
            BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|line| tell.send(line))
        });
    }
    drop(tell);
    let mut logged = Vec::new();
    let is_told = |logged: &[String], what: &str| logged.iter().any(|line| line.contains(what));
    let give_up = Instant::now() + PATIENCE;
    while !["Redis can't be used", "librdkafka", "etcd does not answer"].iter().all(|what| is_told(&logged, what)) {
        assert!(Instant::now() < give_up, "{}", logged.join("\n"));
        logged.push(told.recv_timeout(PATIENCE).expect("it says what fails"));
    }
    kill_process(Pid::from_child(&running.0), Signal::TERM).expect("sent");
    logged.extend(told.iter());
    assert!(ended(&mut running.0).success());
    for secret in SECRETS {
        let line = logged.iter().find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret} in {line:?}");
    }
}
