//! What is wrong with a seed, and in which line it is said to be.

use std::path::PathBuf;

use super::Seed;

fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    (directory, path)
}

/// The faults of a seed as `line: message`.
fn faults(name: &str, text: &str) -> Vec<String> {
    let (_directory, path) = file(name, text);
    let said = Seed::read(&path).expect_err("it is wrong").to_string();
    let place = format!("  {}:", path.display());
    let faults: Vec<_> =
        said.lines().filter_map(|line| line.strip_prefix(&place)).map(str::to_owned).collect();
    assert!(!faults.is_empty(), "{said}");
    faults
}

#[test]
fn every_fault_is_told_at_once_with_its_line() {
    let text = "[[devices]]\nid = 'bad id'\ntgas = { a = 1 }\n\n[[device]]\nid = 'x'\n\n[[digital_twins]]\nid = 'room'\n";
    assert_eq!(
        faults("seed.toml", text),
        [
            "2: device: `id`: DeviceId 'bad id' is not valid: 1 to 128 characters of A-Z a-z 0-9 - : . + % _ # * ? ! ( ) , = @ ; $ '",
            "3: device: there is no `tgas`, did you mean `tags`?",
            "5: the seed: there is no `device`, did you mean `devices`?",
            "8: digital twin \"room\": `model` is missing",
        ]
        .map(str::to_owned)
        .as_slice()
    );
}

#[test]
fn the_same_holds_for_json() {
    let text = "{\n  \"devices\": [\n    {\"id\": \"ok\"},\n    {\n      \"id\": \"two\",\n      \"edge\": \"yes\"\n    }\n  ]\n}\n";
    assert_eq!(faults("seed.json", text), ["6: device \"two\": `edge` is true or false, not a text"]);
    assert_eq!(faults("seed.json", "{\n\"devices\": [}")[0].split(':').next(), Some("2"));
}

#[test]
fn what_is_not_built_yet_is_refused_and_says_so() {
    let said = faults(
        "seed.toml",
        "[[hubs]]\nname = 'plant'\nroutes = []\n[[message_routes]]\nname = 'x'\n[[devices]]\nid = 'd'\nreported = {}\n",
    );
    assert_eq!(
        said[0],
        "3: hub \"plant\": `routes` cannot be seeded: message routing of hubs is not built yet"
    );
    assert!(said[1].starts_with("4: the seed: `message_routes` cannot be seeded: "), "{said:?}");
    assert!(said[2].starts_with("8: device \"d\": `reported` cannot be seeded: "), "{said:?}");
}

#[test]
fn the_rules_of_the_services_hold_before_anything_is_applied() {
    for (text, wanted) in [
        (
            "[[devices]]\nid = 'd'\nprimary_key = 'short'\n",
            "3: device \"d\": `primary_key`: the key is not base64",
        ),
        (
            "[[devices]]\nid = 'd'\nstatus = 'enabeld'\n",
            "3: device \"d\": `status` cannot be \"enabeld\", did you mean `enabled`?",
        ),
        ("[[devices]]\nid = 'd'\nprimary_thumbprint = 'xyz'\n", "3: device \"d\": StringIsNotThumbprint"),
        ("[[devices]]\nid = 'd'\ntags = { '$x' = 1 }\n", "3: device \"d\": "),
        ("[[hubs]]\nname = 'no spaces please'\n", "2: hub \"no spaces please\": 'no spaces please' must be"),
        (
            "[[principals]]\nname = 'p'\nclient_secret = 'short'\n",
            "3: principal \"p\": `client_secret` has 16",
        ),
        ("[[principals]]\nname = 'twinhub'\n", "2: principal \"twinhub\": the server makes this one itself"),
        (
            "[[principals]]\nname = 'p'\n[[principals.roles]]\nrole = 'IoT Hub Data Raeder'\n",
            "4: role \"IoT Hub Data Raeder\": there is no such role, did you mean `IoT Hub Data Reader`?",
        ),
        ("[[enrollments]]\nid = 'e'\nallocation_policy = 'static'\n", "3: enrollment \"e\": the static"),
        ("[[enrollment_groups]]\nid = 'g'\nendorsement_key = 'AAAA'\n", "3: enrollment group \"g\": a TPM"),
        ("[[enrollments]]\nid = 'e'\nprimary_certificate_file = 'none.pem'\n", "3: enrollment \"e\": "),
        (
            "[[endpoints]]\nname = 'endpoint'\nkind = 'EventHub'\nconnection_string = 'x'\n",
            "4: endpoint \"endpoint\": `connection_string` needs",
        ),
        ("[[endpoints]]\nname = 'endpoint'\n", "2: endpoint \"endpoint\": an endpoint leads to"),
        ("[[models]]\nfile = 'none.json'\n", "2: models: "),
        (
            "[[models]]\n[models.definition]\n'@id' = 'dtmi:x;1'\n'@type' = 'Interface'\n",
            "1: model \"dtmi:x;1\": ",
        ),
        ("[[devices]]\nid = 'd'\n[[devices]]\nid = 'd'\n", "3: device \"d\" is in the seed twice"),
    ] {
        let said = faults("seed.toml", text);
        assert!(said.iter().any(|said| said.starts_with(wanted)), "{wanted}: {said:?}");
    }
}

#[test]
fn no_secret_is_repeated_in_a_fault() {
    let text = "[[devices]]\nid = 'd'\nprimary_key = 'hIdDeN'\n[[endpoints]]\nname = 'one'\nkind = 'EventHub'\n\
                connection_string = 'SharedAccessKey=hIdDeN'\n[[principals]]\nname = 'p'\nclient_secret = 'hIdDeN'\n";
    let said = faults("seed.toml", text).join("\n");
    assert!(!said.contains("hIdDeN"), "{said}");
}

#[test]
fn the_name_of_the_file_says_what_it_is() {
    assert!(faults("seed.yaml", "")[0].contains("ends in .toml or .json"));
    assert!(
        Seed::read(&PathBuf::from("/nowhere/seed.toml")).unwrap_err().to_string().contains("No such file")
    );
}
