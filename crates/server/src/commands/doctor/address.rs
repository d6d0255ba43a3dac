//! Whether the server is reached at the addresses that it tells its clients.

use std::time::Duration;

use server::client::Trust;

use super::{Finding, Patient};

const CHECK: &str = "address";
const PATIENCE: Duration = Duration::from_secs(4);

pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let Some(run) = &patient.run else {
        return vec![Finding::unknown(CHECK, "no server runs whose addresses could be dialled")];
    };
    let variable = |name: &str| run.environment.get(name).map(String::as_str);
    let trust_file = variable("TWINHUB_CA_FILE").unwrap_or_default();
    let trust = std::fs::read_to_string(trust_file).ok().and_then(|pem| Trust::only(&pem).ok());
    let Some(trust) = trust else {
        let message = format!("{trust_file} cannot be read: nobody can trust the server");
        return vec![Finding::problem(
            CHECK,
            message,
            "Put it back from a backup, or start the server again.",
        )];
    };
    let authority = variable("AZURE_AUTHORITY_HOST").and_then(|url| url.strip_prefix("https://"));
    let mut dialled = Vec::new();
    dialled.extend(authority.map(|authority| ("HTTPS", split(authority, 443))));
    let hub = variable("IOTHUB_HOSTNAME").map(|host| split(host, run.mqtt_port).0);
    dialled.extend(hub.map(|host| ("MQTT", (host, run.mqtt_port))));
    dialled.into_iter().map(|(protocol, (host, port))| dial(&trust, protocol, &host, port)).collect()
}

fn split(authority: &str, port: u16) -> (String, u16) {
    let (host, own) = authority.rsplit_once(':').unwrap_or((authority, ""));
    (host.to_owned(), own.parse().unwrap_or(port))
}

fn dial(trust: &Trust, protocol: &str, host: &str, port: u16) -> Finding {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return Finding::unknown(CHECK, "no runtime") };
    let connected =
        runtime.block_on(async { tokio::time::timeout(PATIENCE, trust.connect(host, port)).await });
    match connected {
        Ok(Ok(_)) => Finding::ok(
            CHECK,
            format!("{host}:{port} answers with a certificate that is trusted ({protocol})"),
        ),
        Ok(Err(error)) => unreachable(protocol, host, port, &error.to_string()),
        Err(_) => {
            unreachable(protocol, host, port, &format!("nobody answers within {} s", PATIENCE.as_secs()))
        }
    }
}

fn unreachable(protocol: &str, host: &str, port: u16, why: &str) -> Finding {
    Finding::problem(
        CHECK,
        format!("clients are told {host}:{port} ({protocol}), and it is not reached: {why}"),
        "Advertise what leads here with serve --advertise HOST, or let the firewall pass the port.",
    )
}
