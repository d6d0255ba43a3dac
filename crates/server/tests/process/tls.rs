//! The built binary to clients of TLS that are not ours: `openssl s_client`, as small devices and as large ones.

use std::io::Read;
use std::path::PathBuf;

use super::*;

/// The offer of a small device: one suite, one signature.
const SMALL: [&str; 4] = ["-cipher", "ECDHE-RSA-AES128-GCM-SHA256", "-sigalgs", "RSA+SHA256"];

fn is_there() -> bool {
    let found = Command::new("openssl").arg("version").stdout(Stdio::null()).status();
    let is_there = found.is_ok_and(|status| status.success());
    if !is_there {
        test_data::did_not_run("openssl is missing");
    }
    is_there
}

/// Shakes hands on `port` and gives what `openssl` says of it. `root` is what it trusts.
fn shake(server: &Server, port: u16, root: Option<&Path>, offer: &[&str]) -> (bool, String) {
    let mut command = Command::new("openssl");
    let at = format!("{}:{port}", server.address);
    command.args(["s_client", "-connect", &at, "-servername", "hub.azure-devices.localhost", "-brief"]);
    command.args(["-verify_hostname", "hub.azure-devices.localhost"]).args(offer);
    if let Some(root) = root {
        command.args(["-verify_return_error", "-no-CApath", "-no-CAstore", "-CAfile"]).arg(root);
    }
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let _deadline = deadline::Deadline::of(&child);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (child.wait().unwrap().success(), said)
}

fn rsa_files(directory: &Path) -> [PathBuf; 2] {
    ["ca-rsa.pem", "ca-rsa-key.pem"].map(|name| directory.join(name))
}

#[test]
fn a_small_device_is_served_with_rsa_and_nobody_else_makes_the_keys_for_it() {
    if !test_postgres::runs_embedded("the keys of authorities lie in files") {
        return;
    }
    if !is_there() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (address, log) = (own_address(), directory.path().join("log.txt"));
    let mut command = Server::command(directory.path(), &address);
    command.env("TWINHUB_LOG", "trace").stderr(std::fs::File::create(&log).unwrap());
    let server = Server::spawn(command, address);
    let (ca, [rsa, rsa_key]) = (directory.path().join("ca.pem"), rsa_files(directory.path()));
    for port in [8883, 8443] {
        for offer in [
            &[][..],
            &["-tls1_2"],
            &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256"],
        ] {
            let (ok, said) = shake(&server, port, Some(&ca), offer);
            assert!(ok && said.contains("Verification: OK"), "{offer:?}: {said}");
        }
        // Suites that nobody should have, and offers that make no sense, cost no keys.
        for offer in [
            &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA:AES128-SHA:AES128-GCM-SHA256"][..],
            &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256", "-sigalgs", "RSA+SHA256"],
        ] {
            assert!(!shake(&server, port, None, offer).0, "{offer:?}");
        }
    }
    assert!(!rsa.exists() && !rsa_key.exists());

    shake(&server, 8883, None, &SMALL);
    let made = std::fs::read(&rsa).unwrap();
    for port in [8883, 8443] {
        for version in [&[][..], &["-tls1_2"]] {
            let (ok, said) = shake(&server, port, Some(&rsa), &[&SMALL, version].concat());
            let suite = said.contains("Ciphersuite: ECDHE-RSA-AES128-GCM-SHA256");
            assert!(ok && suite && said.contains("Verification: OK"), "{said}");
        }
        let (ok, said) = shake(&server, port, Some(&rsa), &["-tls1_3", "-sigalgs", "RSA-PSS+SHA256"]);
        assert!(ok && said.contains("Protocol version: TLSv1.3"), "{said}");
        let bundle = directory.path().join("ca-bundle.pem");
        assert!(shake(&server, port, Some(&bundle), &SMALL).0, "the bundle holds both roots");
        assert!(!shake(&server, port, Some(&ca), &SMALL).0, "our root alone is one root");
        assert!(shake(&server, port, Some(&ca), &[]).0, "others are served as before");
    }
    assert!(server.terminate().success());
    let (said, key) = (std::fs::read_to_string(log).unwrap(), std::fs::read_to_string(&rsa_key).unwrap());
    assert!(said.contains("ca-rsa.pem") && key.lines().count() > 3);
    assert!(!key.lines().any(|line| said.contains(line)), "the key is in the log");

    let server = Server::start(directory.path());
    assert!(shake(&server, 8883, Some(&rsa), &SMALL).0, "after a restart too");
    assert_eq!(std::fs::read(&rsa).unwrap(), made);
}

#[test]
fn many_strangers_at_once_make_one_root() {
    if !is_there() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path());
    std::thread::scope(|scope| {
        let strangers: Vec<_> = (0..8).map(|_| scope.spawn(|| shake(&server, 8883, None, &SMALL))).collect();
        for stranger in strangers {
            let (ok, said) = stranger.join().unwrap();
            assert!(ok, "{said}");
        }
    });
    let [rsa, _] = rsa_files(directory.path());
    assert!(shake(&server, 8883, Some(&rsa), &SMALL).0);
}

#[test]
fn a_start_without_the_key_of_its_authority_is_refused_with_the_remedy() {
    if !test_postgres::runs_embedded("the keys of authorities lie in files") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    assert!(Server::start(directory.path()).terminate().success());
    let (ca, key) = (directory.path().join("ca.pem"), directory.path().join("ca-key.pem"));
    let root = std::fs::read(&ca).unwrap();
    std::fs::remove_file(&key).unwrap();
    let address = own_address();
    let refused = Server::command(directory.path(), &address).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("ca-key.pem is missing"), "{said}");
    assert!(said.contains("from a backup") && said.contains("start again"), "{said}");
    assert_eq!(std::fs::read(&ca).unwrap(), root);
    // The remedy works.
    std::fs::remove_file(&ca).unwrap();
    let server = Server::start(directory.path());
    assert!(server.ready_line.starts_with("twinhub is ready"), "{}", server.ready_line);
    assert_ne!(std::fs::read(&ca).unwrap(), root);
}
