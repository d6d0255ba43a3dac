//! The built binary in bad times: a clock that is set, open files that run out, signals, a log that nobody reads.

use super::*;

/// What `/metrics` says of one number.
pub(super) async fn metric(https: &Https, server: &Server, name: &str) -> u64 {
    let answer = https.ask("GET", &server.url("/metrics"), &[], "").await.unwrap();
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

pub(super) async fn move_clock(https: &Https, directory: &Path, server: &Server, body: &'static str) {
    let key = std::fs::read_to_string(directory.join("admin.key")).unwrap();
    let authorization = format!("Bearer {}", key.trim());
    let headers = [("authorization", authorization.as_str())];
    https.ask("POST", &server.url("/_twinhub/clock"), &headers, body).await.unwrap();
}

#[tokio::test]
async fn a_wall_clock_that_is_set_is_told_and_holds_no_stranger() {
    let directory = tempfile::tempdir().unwrap();
    let address = own_address();
    let mut command = Server::command(directory.path(), &address);
    command.stderr(Stdio::piped());
    let server = Server::spawn(command, address);
    let https = client(directory.path());
    let pem = std::fs::read_to_string(directory.path().join("ca.pem")).unwrap();
    let mut stranger = Trust::only(&pem).unwrap().connect(&server.address, 8883).await.unwrap();
    assert_eq!(metric(&https, &server, "twinhub_wall_clock_steps_total").await, 0);
    move_clock(&https, directory.path(), &server, "{\"stepSeconds\": -7200}").await;
    assert_eq!(metric(&https, &server, "twinhub_wall_clock_steps_total").await, 1);
    move_clock(&https, directory.path(), &server, "{\"advanceSeconds\": 11}").await;
    let mut byte = [0; 1];
    let read = tokio::io::AsyncReadExt::read(&mut stranger, &mut byte);
    let read = tokio::time::timeout(Duration::from_secs(5), read).await.expect("the stranger is sent away");
    assert!(matches!(read, Ok(0) | Err(_)));
    let said = server.said();
    assert!(said.contains("the wall clock was set"), "{said}");
}

/// The default hub's owner, who writes devices.
pub(super) struct Owner {
    https: Https,
    token: String,
}

impl Owner {
    pub(super) fn of(directory: &Path, server: &Server) -> Self {
        let connection = &environment(directory)["IOTHUB_CONNECTION_STRING"];
        let key: base::Key = connection.rsplit_once("SharedAccessKey=").unwrap().1.parse().unwrap();
        let soon = base::Clock::system().now().plus(Duration::from_hours(1));
        let token = base::sas::build(&server.address, &key, soon, Some("iothubowner"));
        Self { https: client(directory), token }
    }

    /// The status of a durable write.
    pub(super) async fn put_device(&self, server: &Server, id: &str) -> u16 {
        let url = server.url(&format!("/devices/{id}?api-version=2021-04-12"));
        let headers = [("authorization", self.token.as_str()), ("content-type", "application/json")];
        let body = format!("{{\"deviceId\": \"{id}\"}}");
        self.https.send("PUT", &url, &headers, body).await.unwrap().status.as_u16()
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_disk_that_refuses_every_write_makes_the_server_unready_until_it_takes_one() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    if !test_postgres::runs_embedded("it fills the disk below the records") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let address = own_address();
    // A file that would grow past the limit is refused, where the signal for it is ignored.
    let mut command = Command::new("sh");
    let serve = Server::command(directory.path(), &address);
    command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(serve.get_program()).args(serve.get_args());
    command.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
    let server = Server::spawn(command, address);
    let owner = Owner::of(directory.path(), &server);
    assert_eq!(owner.put_device(&server, "dev1").await, 200);
    let process = Pid::from_child(&server.child);
    let limit_files = |bytes| {
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(Some(process), Resource::Fsize, limit).unwrap();
    };
    let ready = async || {
        let answer = owner.https.send("GET", &server.url("/readyz"), &[], "").await.unwrap();
        (answer.status.as_u16(), String::from_utf8(answer.body.to_vec()).unwrap())
    };
    assert_eq!(ready().await, (200, "ready\n".to_owned()));
    limit_files(Some(1));
    assert!(owner.put_device(&server, "dev2").await >= 500);
    let (status, said) = ready().await;
    assert!(status == 503 && said.contains("records cannot be written"), "{status} {said}");
    assert!(metric(&owner.https, &server, "twinhub_write_failures_total{of=\"records\"}").await > 0);
    // Still so when it was tried again.
    move_clock(&owner.https, directory.path(), &server, "{\"advanceSeconds\": 5}").await;
    assert_eq!(ready().await.0, 503);
    limit_files(None);
    let until = std::time::Duration::from_secs(20);
    let recovers = async {
        while ready().await.0 != 200 {
            move_clock(&owner.https, directory.path(), &server, "{\"advanceSeconds\": 5}").await;
        }
    };
    tokio::time::timeout(until, recovers).await.expect("it finds out by itself");
    assert_eq!(owner.put_device(&server, "dev2").await, 200);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_full_of_connections_still_writes_and_lets_the_operator_in() {
    const LIMIT: u64 = 200;
    let directory = tempfile::tempdir().unwrap();
    let address = own_address();
    let mut command = Command::new("sh");
    let serve = Server::command(directory.path(), &address);
    command.args(["-c", &format!("ulimit -n {LIMIT}; exec \"$@\""), "sh"]);
    command.arg(serve.get_program()).args(serve.get_args()).stderr(Stdio::piped());
    command.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
    let server = Server::spawn(command, address);
    let owner = Owner::of(directory.path(), &server);
    assert_eq!(owner.put_device(&server, "dev1").await, 200);
    let mut held = Vec::new();
    for port in [8883, 8443] {
        for _ in 0..2 * LIMIT {
            held.push(tokio::net::TcpStream::connect((server.address.as_str(), port)).await.unwrap());
        }
        // On a connection of his own and on one that he has.
        for number in 0..20 {
            assert_eq!(owner.put_device(&server, &format!("dev{port}-{number}")).await, 200);
        }
        if port == 8883 {
            let other = client(directory.path());
            assert_eq!(other.send("GET", &server.url("/readyz"), &[], "").await.unwrap().status, 200);
        }
    }
    assert!(metric(&owner.https, &server, "twinhub_connections_refused_total").await > LIMIT);
    let files = std::fs::read_dir(format!("/proc/{}/fd", server.child.id())).unwrap().count() as u64;
    assert!(files < LIMIT - 32, "{files} files are open");
    drop(held);
    let said = server.said();
    assert_eq!(said.matches("there are too many connections").count(), 1, "{said}");
    assert!(!said.contains("Too many open files"), "{said}");
}

fn signal(server: &Server, name: &str) {
    let sent = Command::new("kill").args([name, &server.child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[cfg(unix)]
#[tokio::test]
async fn a_hang_up_ends_nobody_and_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let address = own_address();
    let mut command = Server::command(directory.path(), &address);
    command.stderr(Stdio::piped());
    let server = Server::spawn(command, address);
    signal(&server, "-HUP");
    assert_eq!(Owner::of(directory.path(), &server).put_device(&server, "dev1").await, 200);
    let said = server.said();
    assert!(said.contains("SIGHUP changes nothing"), "{said}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_stop_waits_neither_for_a_method_without_a_device_nor_for_a_silent_http2_client() {
    use tokio::io::AsyncWriteExt;
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path());
    let owner = Owner::of(directory.path(), &server);
    assert_eq!(owner.put_device(&server, "dev1").await, 200);
    let mut silent = http2(directory.path(), &server).await;
    // The preface and empty settings; nothing is ever answered.
    silent.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    silent.flush().await.unwrap();
    let method = async {
        let url = server.url("/twins/dev1/methods?api-version=2021-04-12");
        let headers = [("authorization", owner.token.as_str()), ("content-type", "application/json")];
        let body =
            "{\"methodName\": \"m\", \"connectTimeoutInSeconds\": 200, \"responseTimeoutInSeconds\": 300}";
        owner.https.send("POST", &url, &headers, body).await.unwrap()
    };
    let stop = async {
        // Once the method waits; a stop before that refuses it as well.
        tokio::time::sleep(Duration::from_millis(300)).await;
        signal(&server, "-TERM");
        base::Clock::system()
    };
    let (answer, since) = tokio::join!(method, stop);
    assert_eq!(answer.status, 503, "{}", String::from_utf8_lossy(&answer.body));
    assert!(answer.body.windows(6).any(|part| part == b"503005"));
    let mut server = server;
    assert!(server.child.wait().unwrap().success());
    assert!(since.elapsed().since(base::Elapsed::START) < Duration::from_secs(6), "it took too long");
    drop(silent);
}

/// A connection that agreed to speak HTTP/2.
async fn http2(directory: &Path, server: &Server) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    use rustls_pki_types::pem::PemObject;
    let root = rustls_pki_types::CertificateDer::from_pem_file(directory.join("ca.pem")).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tokio::net::TcpStream::connect((server.address.as_str(), 8443)).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from(server.address.clone()).unwrap();
    tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await.unwrap()
}

#[cfg(unix)]
#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_nobody_and_says_how_much_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let address = own_address();
    let mut command = Server::command(directory.path(), &address);
    command.env("TWINHUB_LOG", "debug").stderr(Stdio::piped());
    let server = Server::spawn(command, address);
    let owner = Owner::of(directory.path(), &server);
    let work = async {
        while metric(&owner.https, &server, "twinhub_log_lines_lost_total").await == 0 {
            for _ in 0..500 {
                // No TLS at all, which is a line.
                let mut stream =
                    tokio::net::TcpStream::connect((server.address.as_str(), 8883)).await.unwrap();
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET / HTTP/1.1\r\n\r\n").await;
            }
        }
        for more in 0..50 {
            assert_eq!(owner.put_device(&server, &format!("more{more}")).await, 200);
        }
    };
    tokio::time::timeout(Duration::from_secs(40), work).await.expect("the log holds nobody up");
    let mut server = server;
    let mut stderr = server.child.stderr.take().unwrap();
    let read = std::thread::spawn(move || {
        let mut said = String::new();
        std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
        said
    });
    assert!(server.terminate().success());
    assert!(read.join().unwrap().contains("lines of the log were lost"));
}
