//! Whether the tools and languages of this machine trust the running server: each really connects to it, first as the shell is, then
//! with what `twinhub env` sets.

use std::collections::BTreeMap;
use std::time::Duration;

use super::tool::{self, Outcome};
use super::{Finding, Patient};

const CHECK: &str = "trust";
const PATIENCE: Duration = Duration::from_secs(8);
/// What of `twinhub env` says whom to trust.
const VARIABLES: [&str; 5] =
    ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE", "JAVA_TOOL_OPTIONS"];
/// A script ends with it where the machine lacks what it would try.
const LACKS: i32 = 42;

/// A proxy in the way is not asked to reach this machine.
pub(super) fn proxy(patient: &Patient) -> Vec<Finding> {
    let variable = |name: &str| {
        std::env::var(name)
            .or_else(|_| std::env::var(name.to_lowercase()))
            .ok()
            .filter(|text| !text.is_empty())
    };
    let Some(proxy) = variable("HTTPS_PROXY").or_else(|| variable("ALL_PROXY")) else {
        return vec![Finding::ok("proxy", "no proxy is set")];
    };
    let host = host(patient).unwrap_or_else(|| "localhost".to_owned());
    let spared = variable("NO_PROXY").unwrap_or_default();
    let is_spared = spared.split(',').map(str::trim).any(|one| {
        one == "*"
            || one == host
            || !one.is_empty() && host.ends_with(&format!(".{}", one.trim_start_matches('.')))
    });
    // A proxy's address may hold a password.
    let proxy = proxy.rsplit('@').next().unwrap_or_default().to_owned();
    if is_spared {
        return vec![Finding::ok("proxy", format!("the proxy {proxy} is not asked for {host}"))];
    }
    let message =
        format!("HTTPS goes to the proxy {proxy}, for {host} too, and it does not know this server");
    vec![Finding::note("proxy", message, format!("export NO_PROXY=\"${{NO_PROXY:+$NO_PROXY,}}{host}\""))]
}

fn url(patient: &Patient) -> Option<String> {
    let run = patient.run.as_ref()?;
    run.environment.get("AZURE_AUTHORITY_HOST").map(|url| format!("{}/healthz", url.trim_end_matches('/')))
}

fn host(patient: &Patient) -> Option<String> {
    let url = url(patient)?;
    let authority = url.strip_prefix("https://")?.split('/').next()?;
    Some(authority.rsplit_once(':').map_or(authority, |(host, _)| host).to_owned())
}

/// A tool, by its program, and how it is to connect.
struct Tool<'a> {
    name: &'static str,
    program: &'static str,
    arguments: &'a [&'a str],
    /// What to do where even `twinhub env` does not help.
    remedy: String,
    /// Whether `twinhub env` can tell it whom to trust.
    reads_environment: bool,
}

impl Tool<'_> {
    fn check(&self, patient: &Patient) -> Vec<Finding> {
        let Some(run) = &patient.run else { return Vec::new() };
        if tool::find(self.program).is_none() {
            return Vec::new();
        }
        let name = self.name;
        let none = BTreeMap::new();
        let with_env: BTreeMap<_, _> = VARIABLES
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), run.environment.get(*name)?.clone())))
            .collect();
        let first = tool::run(self.program, self.arguments, &none, PATIENCE);
        let said = match first {
            Outcome::Ended { code: 0, .. } => {
                return vec![Finding::ok(CHECK, format!("{name} trusts the server"))];
            }
            Outcome::Ended { code: LACKS, .. } | Outcome::Missing => return Vec::new(),
            Outcome::TimedOut => {
                return vec![Finding::unknown(
                    CHECK,
                    format!("{name} did not connect within {} s", PATIENCE.as_secs()),
                )];
            }
            Outcome::Ended { said, .. } => said,
        };
        let data_dir = patient.config.data_dir.display();
        if !self.reads_environment {
            return vec![Finding::note(
                CHECK,
                format!("{name} does not trust the server: {}", last_line(&said)),
                &self.remedy,
            )];
        }
        match tool::run(self.program, self.arguments, &with_env, PATIENCE) {
            Outcome::Ended { code: 0, .. } => {
                let message = format!("{name} trusts the server, but not as this shell is");
                vec![Finding::note(CHECK, message, format!("eval \"$(twinhub env --data-dir {data_dir})\""))]
            }
            Outcome::Ended { said, .. } => {
                let message = format!(
                    "{name} does not trust the server even with what twinhub env sets: {}",
                    last_line(&said)
                );
                vec![Finding::problem(CHECK, message, &self.remedy)]
            }
            Outcome::TimedOut | Outcome::Missing => {
                vec![Finding::unknown(
                    CHECK,
                    format!("{name} did not connect within {} s", PATIENCE.as_secs()),
                )]
            }
        }
    }
}

/// Of what a tool says, the end says most; a JVM's trace says it at its beginning.
fn last_line(said: &str) -> String {
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let exception = lines().find(|line| line.contains("Exception: "));
    exception.or_else(|| lines().next_back()).unwrap_or("it said nothing").chars().take(200).collect()
}

fn ca_file(patient: &Patient) -> String {
    let run = patient.run.as_ref();
    run.and_then(|run| run.environment.get("TWINHUB_CA_FILE")).cloned().unwrap_or_default()
}

pub(super) fn curl(patient: &Patient) -> Vec<Finding> {
    let Some(url) = url(patient) else { return no_server() };
    let arguments = ["-sS", "-o", "/dev/null", "--max-time", "5", &url];
    let remedy = format!("Give it the file: curl --cacert {}", ca_file(patient));
    Tool { name: "curl", program: "curl", arguments: &arguments, remedy, reads_environment: true }
        .check(patient)
}

/// Told once for all tools.
fn no_server() -> Vec<Finding> {
    vec![Finding::unknown(CHECK, "no server runs that tools and languages could connect to")]
}

pub(super) fn openssl(patient: &Patient) -> Vec<Finding> {
    let Some(url) = url(patient) else { return Vec::new() };
    let authority = url.trim_start_matches("https://").trim_end_matches("/healthz");
    let authority = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:443") };
    let arguments = ["s_client", "-connect", &authority, "-verify_return_error", "-brief"];
    let remedy = format!("Give it the file: openssl s_client -CAfile {}", ca_file(patient));
    let tool = Tool {
        name: "openssl (and what is built on it)",
        program: "openssl",
        arguments: &arguments,
        remedy,
        reads_environment: true,
    };
    tool.check(patient)
}

pub(super) fn python(patient: &Patient) -> Vec<Finding> {
    const SCRIPT: &str = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5).read()";
    let Some(url) = url(patient) else { return Vec::new() };
    let arguments = ["-c", SCRIPT, &url];
    let remedy =
        format!("Give the file to the context: ssl.create_default_context(cafile=\"{}\")", ca_file(patient));
    Tool { name: "python3 (ssl)", program: "python3", arguments: &arguments, remedy, reads_environment: true }
        .check(patient)
}

/// Most of Azure's libraries for Python go this way.
pub(super) fn requests(patient: &Patient) -> Vec<Finding> {
    const SCRIPT: &str = "import sys\ntry:\n    import requests\nexcept ImportError:\n    sys.exit(42)\nrequests.get(sys.argv[1], timeout=5)";
    let Some(url) = url(patient) else { return Vec::new() };
    let arguments = ["-c", SCRIPT, &url];
    let remedy = format!("Give the file to the request: requests.get(…, verify=\"{}\")", ca_file(patient));
    Tool {
        name: "python3 (requests)",
        program: "python3",
        arguments: &arguments,
        remedy,
        reads_environment: true,
    }
    .check(patient)
}

pub(super) fn node(patient: &Patient) -> Vec<Finding> {
    const SCRIPT: &str = "require('https').get(process.argv[1], {timeout: 5000}, r => { r.resume(); r.on('end', () => process.exit(0)); }).on('error', e => { console.error(e.message); process.exit(1); })";
    let Some(url) = url(patient) else { return Vec::new() };
    let arguments = ["-e", SCRIPT, &url];
    let remedy = "Set NODE_EXTRA_CA_CERTS before node starts: it reads it once.".to_owned();
    Tool { name: "node", program: "node", arguments: &arguments, remedy, reads_environment: true }
        .check(patient)
}

/// A JVM trusts what is in its own store, or in the one that each program is told.
pub(super) fn java(patient: &Patient) -> Vec<Finding> {
    const PROGRAM: &str = "public class Trust { public static void main(String[] a) throws Exception { new java.net.URL(a[0]).openStream().close(); } }";
    let Some(url) = url(patient) else { return Vec::new() };
    let directory = std::env::temp_dir().join(format!("twinhub-doctor-{}", std::process::id()));
    let source = directory.join("Trust.java");
    let made = std::fs::create_dir(&directory).and_then(|()| std::fs::write(&source, PROGRAM));
    let source = source.to_string_lossy().into_owned();
    let remedy = format!(
        "Import it: sudo keytool -importcert -cacerts -storepass changeit -noprompt -alias twinhub -file {}; or tell each program: -Djavax.net.ssl.trustStore=FILE",
        ca_file(patient)
    );
    let arguments = ["-XX:TieredStopAtLevel=1", &source, &url];
    let tool =
        Tool { name: "java", program: "java", arguments: &arguments, remedy, reads_environment: false };
    let findings = if made.is_ok() { tool.check(patient) } else { Vec::new() };
    let _ = std::fs::remove_dir_all(&directory);
    findings
}

/// Those that would have to build a program first. On Linux both read the file that is set for openssl.
pub(super) fn by_file(patient: &Patient) -> Vec<Finding> {
    if patient.run.is_none() {
        return Vec::new();
    }
    let found: Vec<&str> = ["go", "dotnet"].into_iter().filter(|name| tool::find(name).is_some()).collect();
    if found.is_empty() {
        return Vec::new();
    }
    let message = format!(
        "{}: programs trust what SSL_CERT_FILE names, as openssl does; none was tried",
        found.join(" and ")
    );
    vec![Finding::unknown(CHECK, message)]
}
