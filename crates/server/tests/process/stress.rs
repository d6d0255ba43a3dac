//! The built binary in bad times: a clock that is set, open files that run out, signals, a log that nobody reads.

use super::*;

/// What `/metrics` says of one number.
async fn metric(https: &Https, server: &Server, name: &str) -> u64 {
    let answer = https.ask("GET", &server.url("/metrics"), &[], "").await.unwrap();
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

async fn move_clock(https: &Https, directory: &Path, server: &Server, body: &'static str) {
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
