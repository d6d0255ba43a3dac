//! Which variables there are, and that every reader gets them back as they were.

use std::path::Path;
use std::process::Command;

use super::*;
use crate::commands::env::Format;

fn facts() -> Facts {
    Facts {
        base_url: "https://localhost:8443".into(),
        base_host: "localhost:8443".into(),
        tenant_id: "11111111-2222-3333-4444-555555555555".into(),
        client_id: "app".into(),
        client_secret: "s'e\"c$r`e\\t".into(),
        subscription_id: "sub".into(),
        resource_group: "twinhub".into(),
        mqtt_port: 9883,
        hub: Some(HubFacts {
            host_name: "127.0.0.1".into(),
            service_host: "127.0.0.1:8443".into(),
            owner_key: "a2V5".into(),
            service_key_name: "service".into(),
            service_key: "c2Vy".into(),
            event_hub_host: "127.0.0.1".into(),
            event_hub_path: "hub".into(),
        }),
        provisioning: Some(ProvisioningFacts {
            device_host: "127.0.0.1".into(),
            service_host: "127.0.0.1:8443".into(),
            id_scope: "0ne00000001".into(),
            owner_key: "b3du".into(),
        }),
        digital_twins_url: Some("https://127.0.0.1:8443".into()),
        storage: Some(StorageFacts {
            account: "storage".into(),
            key: "c3Rv".into(),
            blob_endpoint: "https://127.0.9.9:8443/storage".into(),
        }),
        ca_file: "/data/ca.pem".into(),
        ca_bundle: "/data/ca-bundle.pem".into(),
    }
}

fn recipe() -> Recipe<'static> {
    Recipe { tenant_id: "guid", config_dir: Path::new("/data/az") }
}

fn written(variables: &BTreeMap<String, String>, format: Format) -> String {
    write(variables, format, &recipe()).unwrap()
}

/// `design.md` §2, in its order: names that are promised.
const PROMISED: &[&str] = &[
    "AZURE_AUTHORITY_HOST",
    "AZURE_TENANT_ID",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_SUBSCRIPTION_ID",
    "AZURE_RESOURCE_GROUP",
    "AZURE_RESOURCE_MANAGER_ENDPOINT",
    "AZURE_RESOURCE_MANAGER_AUDIENCE",
    "ARM_CLOUD_METADATA_URL",
    "ARM_TENANT_ID",
    "ARM_CLIENT_ID",
    "ARM_CLIENT_SECRET",
    "ARM_SUBSCRIPTION_ID",
    "ARM_METADATA_HOSTNAME",
    "IOTHUB_HOSTNAME",
    "IOTHUB_CONNECTION_STRING",
    "EVENTHUB_CONNECTION_STRING",
    "PROVISIONING_HOST",
    "PROVISIONING_IDSCOPE",
    "PROVISIONING_CONNECTION_STRING",
    "AZURE_DIGITALTWINS_URL",
    "AZURE_URL",
    "TWINHUB_CA_FILE",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
];

#[test]
fn the_names_are_those_of_the_contract_and_those_that_are_listed_beside_them() {
    let made: Vec<String> = variables(&facts()).into_keys().collect();
    let mut listed = NAMES.to_vec();
    listed.sort_unstable();
    assert_eq!(made, listed);
    assert_eq!(NAMES[..PROMISED.len()], *PROMISED);
}

#[test]
fn samples_find_under_their_names_what_the_contract_has_under_its_own() {
    let made = variables(&facts());
    for (theirs, ours) in [
        ("AZ_IOT_HUB_HOSTNAME", "IOTHUB_HOSTNAME"),
        ("EVENT_HUB_CONN_STR", "EVENTHUB_CONNECTION_STRING"),
        ("AZURE_EVENT_HUBS_CONNECTION_STRING", "EVENTHUB_CONNECTION_STRING"),
        ("AZURE_EVENT_HUB_CONNECTION_STRING", "EVENTHUB_CONNECTION_STRING"),
        ("IOTHUB_DEVICE_DPS_ENDPOINT", "PROVISIONING_HOST"),
        ("IOTHUB_DEVICE_DPS_ID_SCOPE", "PROVISIONING_IDSCOPE"),
        ("AZ_IOT_PROVISIONING_ID_SCOPE", "PROVISIONING_IDSCOPE"),
        ("DPS_IDSCOPE", "PROVISIONING_IDSCOPE"),
        ("AZ_IOT_DEVICE_X509_TRUST_PEM_FILE_PATH", "TWINHUB_CA_FILE"),
        ("CURL_CA_BUNDLE", "SSL_CERT_FILE"),
        ("ADT_SERVICE_URL", "AZURE_DIGITALTWINS_URL"),
    ] {
        assert_eq!(made[theirs], made[ours], "{theirs}");
    }
    for name in ["EVENT_HUB_NAME", "EVENTHUB_NAME", "AZURE_EVENT_HUB_NAME"] {
        assert!(made["EVENTHUB_CONNECTION_STRING"].ends_with(&format!(";EntityPath={}", made[name])));
    }
}

#[test]
fn ports_stand_where_clients_take_them_and_nowhere_else() {
    let made = variables(&facts());
    for name in ["IOTHUB_CONNECTION_STRING", "PROVISIONING_CONNECTION_STRING"] {
        assert!(made[name].starts_with("HostName=127.0.0.1:8443;"), "{name}");
    }
    let storage = "DefaultEndpointsProtocol=https;AccountName=storage;AccountKey=c3Rv;BlobEndpoint=https://127.0.9.9:8443/storage";
    assert_eq!(made["AZURE_STORAGE_CONNECTION_STRING"], storage);
    for name in ["IOTHUB_HOSTNAME", "PROVISIONING_HOST"] {
        assert_eq!(made[name], "127.0.0.1", "{name}");
    }
    assert!(made["EVENTHUB_CONNECTION_STRING"].starts_with("Endpoint=sb://127.0.0.1/;"));
    assert_eq!(made["TWINHUB_MQTT_PORT"], "9883");
}

#[test]
fn every_form_but_az_says_adfs_and_az_says_the_guid() {
    let made = variables(&facts());
    assert!(written(&made, Format::Shell).contains("export AZURE_TENANT_ID='adfs'\n"));
    assert!(written(&made, Format::Dotenv).contains("\nAZURE_TENANT_ID=\"adfs\"\n"));
    let json: BTreeMap<String, String> = serde_json::from_str(&written(&made, Format::Json)).unwrap();
    assert_eq!(json, made);
    let az = written(&made, Format::Az);
    assert!(az.contains("--tenant 'guid'") && !az.contains("--tenant 'adfs'"), "{az}");
    assert!(az.contains("--endpoint-active-directory 'https://localhost:8443/adfs'"), "{az}");
}

/// What no reader may take for its own.
const HOSTILE: &str = "it's \"quoted\" $HOME `id` $(id) \\ \u{2018}curled\u{2019} %20 #no ;& <<EOF =x! end\\";

/// What `program` prints that ran `script`; `None` where it is not installed.
fn run(program: &str, arguments: &[&str], script: &str) -> Option<String> {
    let Ok(output) = Command::new(program).args(arguments).arg(script).output() else {
        eprintln!("not run, for {program} is not installed: its own reading of the variables");
        return None;
    };
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

fn hostile(value: &str) -> BTreeMap<String, String> {
    [("NAME".to_owned(), value.to_owned())].into()
}

#[test]
fn each_shell_reads_back_every_value_whatever_is_in_it() {
    for value in [HOSTILE, "two\nlines'\n", " blanks ", ""] {
        for (program, arguments, format, show) in [
            ("sh", &["-c"][..], Format::Shell, "printf '%s' \"$NAME\""),
            ("bash", &["-c"], Format::Shell, "printf '%s' \"$NAME\""),
            ("fish", &["--no-config", "-c"], Format::Fish, "printf '%s' \"$NAME\""),
            ("pwsh", &["-NoProfile", "-Command"], Format::Powershell, "[Console]::Out.Write($env:NAME)"),
        ] {
            // PowerShell removes a variable that is set to nothing.
            let script = format!("{}{show}", written(&hostile(value), format));
            if let Some(read) = run(program, arguments, &script) {
                assert_eq!(read, value, "{program}");
            }
        }
    }
}

#[test]
fn powershell_is_given_each_of_its_single_quotes_twice() {
    let said = written(&hostile("a'b\u{2018}c\u{2019}d\u{201a}e\u{201b}$x`"), Format::Powershell);
    assert_eq!(
        said,
        "$env:NAME = 'a''b\u{2018}\u{2018}c\u{2019}\u{2019}d\u{201a}\u{201a}e\u{201b}\u{201b}$x`'\n"
    );
}

#[test]
fn docker_is_given_lines_as_they_are_and_no_second_line() {
    assert_eq!(written(&hostile(HOSTILE), Format::Docker), format!("NAME={HOSTILE}\n"));
    for value in ["two\nlines", "carriage\rreturn"] {
        let refused = write(&hostile(value), Format::Docker, &recipe()).unwrap_err().to_string();
        assert_eq!(refused, "NAME has more than one line, which a file for docker cannot hold");
    }
}

#[test]
fn github_is_given_lines_and_delimiters_that_no_line_is() {
    assert_eq!(written(&hostile(HOSTILE), Format::Github), format!("NAME={HOSTILE}\n"));
    assert_eq!(written(&hostile("a\nEND\nEND_"), Format::Github), "NAME<<END__\na\nEND\nEND_\nEND__\n");
    assert_eq!(written(&hostile("a\n"), Format::Github), "NAME<<END\na\n\nEND\n");
}

#[test]
fn github_masks_what_is_secret_and_nothing_else() {
    let mut made = variables(&facts());
    made.insert("SOME_KEY".to_owned(), "50%\nmore".to_owned());
    let masks = masks(&made);
    for secret in [
        "s'e\"c$r`e\\t",
        "a2V5",
        "b3du",
        "c2Vy",
        "c3Rv",
        "HostName=127.0.0.1:8443;SharedAccessKeyName=iothubowner;SharedAccessKey=a2V5",
        "50%25%0Amore",
    ] {
        assert!(masks.contains(&format!("::add-mask::{secret}\n")), "{secret}: {masks}");
    }
    for public in ["adfs", "9883", "127.0.0.1", "hub", "service", "/data/ca.pem"] {
        assert!(!masks.contains(&format!("::add-mask::{public}\n")), "{public}: {masks}");
    }
    assert!(masks.lines().all(|line| line.starts_with("::add-mask::")), "{masks}");
}

#[test]
fn dotenv_quotes_what_it_must() {
    for (value, line) in [
        ("plain", "NAME=\"plain\"\n"),
        ("a \"b\" \\ #", "NAME=\"a \\\"b\\\" \\\\ #\"\n"),
        ("$HOME `id`", "NAME='$HOME `id`'\n"),
        ("two\nlines", "NAME=\"two\\nlines\"\n"),
    ] {
        assert_eq!(written(&hostile(value), Format::Dotenv), line);
    }
}

#[test]
fn az_keeps_to_a_directory_of_its_own_with_the_users_extensions_and_says_how_to_leave() {
    let said = written(&variables(&facts()), Format::Az);
    assert!(said.contains("\nexport AZURE_CONFIG_DIR='/data/az'\n"), "{said}");
    let leave = "unset AZURE_CONFIG_DIR AZURE_EXTENSION_DIR ARM_CLOUD_METADATA_URL REQUESTS_CA_BUNDLE SSL_CERT_FILE\n";
    assert!(
        said.contains(leave) && said.contains("# and to forget the login too: rm -r '/data/az'\n"),
        "{said}"
    );
    // A shell in which `az` only tells where it would look.
    let own = "az() { printf '%s %s\\n' \"$AZURE_CONFIG_DIR\" \"$AZURE_EXTENSION_DIR\"; }\n";
    let again = format!("{own}HOME=/home/me\nunset AZURE_CONFIG_DIR AZURE_EXTENSION_DIR\n{said}{said}");
    let told = run("sh", &["-ec"], &again).unwrap();
    assert!(told.lines().count() > 4);
    assert!(told.lines().all(|line| line == "/data/az /home/me/.azure/cliextensions"), "{told}");
}

#[test]
fn unset_forgets_every_name_of_every_kind() {
    let (device, registration) = (for_device("d", "k", "c"), for_registration("r", "k"));
    let mut all = variables(&facts());
    all.extend(device.into_iter().chain(registration).map(|(name, value)| (name.to_owned(), value)));
    let names: Vec<&str> = all.keys().map(String::as_str).collect();
    let script = format!("{}{}env", written(&all, Format::Shell), unset());
    let left = run("sh", &["-c"], &script).unwrap();
    for name in names {
        assert!(!left.lines().any(|line| line.starts_with(&format!("{name}="))), "{name}: {left}");
    }
}

#[test]
fn what_is_gone_is_left_out() {
    let made = variables(&Facts { hub: None, provisioning: None, digital_twins_url: None, ..facts() });
    for gone in [
        "IOTHUB",
        "EVENT_HUB",
        "EVENTHUB",
        "AZURE_EVENT",
        "AZ_IOT_HUB",
        "PROVISIONING",
        "DPS",
        "AZURE_D",
        "ADT",
    ] {
        assert!(!made.keys().any(|name| name.starts_with(gone)), "{gone}");
    }
}

#[test]
fn the_page_for_readers_has_every_name_and_no_other() {
    let page = include_str!("../../../../docs/environment.md");
    let (_, page) = page.split_once("## Names").unwrap();
    let cells = page.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let mut told: Vec<&str> = cells.flat_map(|cell| cell.split('`').step_by(2)).collect();
    told.retain(|name| *name != "adfs");
    told.sort_unstable();
    let (device, registration) = (for_device("d", "k", "c"), for_registration("r", "k"));
    let names = device.iter().chain(&registration).map(|(name, _)| *name);
    let mut given: Vec<&str> = names.chain(NAMES.iter().copied()).collect();
    given.sort_unstable();
    assert_eq!(told, given);
}
