//! Layers over each other, and what is refused.

use super::layers::{Flags, Layers, Source};
use super::*;

fn environment(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect::<Vec<_>>().into_iter()
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.toml");
    std::fs::write(&path, text).unwrap();
    (directory, path)
}

fn row(layers: &Layers, name: &str) -> (String, Source) {
    let (_, value, source) = layers.rows().find(|(setting, ..)| setting.name == name).unwrap();
    (value.to_owned(), source.clone())
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default() {
    let (_directory, path) =
        file("listen = '127.0.0.3'\ndomain = 'file.test'\nlog = 'warn'\n[ports]\nhttps = 9443\nmqtt = 9883");
    let flags = Flags {
        values: vec![("listen", "--listen", "127.0.0.1".into())],
        config_file: Some(path.clone()),
        ..Flags::default()
    };
    let variables =
        [("TWINHUB_LISTEN", "127.0.0.2"), ("TWINHUB_PORTS__HTTPS", "7443"), ("TWINHUB_DOMAIN", "e.test")];
    let layers = Layers::gather(&flags, environment(&variables)).unwrap();
    assert_eq!(row(&layers, "listen"), ("127.0.0.1".into(), Source::Flag("--listen")));
    assert_eq!(row(&layers, "domain"), ("e.test".into(), Source::Environment("TWINHUB_DOMAIN".into())));
    assert_eq!(row(&layers, "log"), ("warn".into(), Source::File(path)));
    assert_eq!(row(&layers, "durability"), ("full".into(), Source::Default));
    let config = layers.config().unwrap();
    assert_eq!(config.ports, Ports { https: 7443, https_standard: 443, mqtt: 9883, mqtt_plain: 0 });
}

#[test]
fn a_misspelt_setting_is_refused_wherever_it_stands() {
    let (_directory, path) = file("lisetn = '127.0.0.3'");
    let flags = Flags { config_file: Some(path), ..Flags::default() };
    assert!(matches!(Layers::gather(&flags, environment(&[])), Err(ConfigError::UnknownInFile { .. })));
    let refused = Layers::gather(&Flags::default(), environment(&[("TWINHUB_LISETN", "x")]));
    assert!(matches!(refused, Err(ConfigError::UnknownInEnvironment { .. })));
    let ours = [
        ("TWINHUB_CA_FILE", "/ca.pem"),
        ("TWINHUB_MQTT_PORT", "8883"),
        ("TWINHUB_SHARED", "/s"),
        ("PATH", "/bin"),
    ];
    assert!(Layers::gather(&Flags::default(), environment(&ours)).is_ok(), "what env prints is no setting");
}

#[test]
fn a_value_that_does_not_read_names_itself_and_its_source() {
    let too_many = (0..17).map(|n| format!("DIGITALTWINS.p{n}")).collect::<Vec<_>>().join(",");
    for (variable, value, reason) in [
        ("TWINHUB_LISTEN", "here", "invalid IP address"),
        ("TWINHUB_STORE_FILE", "/nowhere/store", "No such file"),
        ("TWINHUB_STORE", "redis://db", "sqlite"),
        ("TWINHUB_DURABILITY", "perhaps", "full or relaxed"),
        ("TWINHUB_INDEXED_PATHS", "DIGITALTWINS.a, TWINS.b", "'TWINS.b' is no path"),
        ("TWINHUB_INDEXED_PATHS", &too_many, "at most 16"),
        ("TWINHUB_PORTS__HTTPS", "70000", "too large"),
        ("TWINHUB_PORTS__MQTT", "0", "switched off"),
        ("TWINHUB_RESOURCE_MANAGER__MASK", "crosses", "stars or placeholder"),
        ("TWINHUB_RESOURCE_MANAGER__RETRY_AFTER_SECONDS", "61", "at most 60"),
        ("TWINHUB_RESOURCE_MANAGER__RETRY_AFTER_SECONDS", "soon", "digit"),
        ("TWINHUB_TLS__KEY", "/k.pem", "needs its certificate"),
        ("TWINHUB_DOMAIN", "a b", "domain name"),
        ("TWINHUB_MANAGE_HOSTS", "maybe", "true"),
    ] {
        let layers = Layers::gather(&Flags::default(), environment(&[(variable, value)])).unwrap();
        let text = layers.config().unwrap_err().to_string();
        assert!(text.contains(variable) || variable.contains("TLS"), "{text}");
        assert!(text.contains(reason), "{variable}={value}: {text}");
    }
}

#[test]
fn what_is_advertised_is_a_host_that_every_client_can_dial() {
    let advertise = |text: &str| {
        Layers::gather(&Flags::default(), environment(&[("TWINHUB_ADVERTISE", text)])).unwrap().config()
    };
    assert_eq!(advertise("").unwrap().advertise, None);
    assert_eq!(advertise("Plant.Example").unwrap().advertise.unwrap().to_string(), "plant.example");
    assert_eq!(advertise("192.168.1.5").unwrap().advertise.unwrap().to_string(), "192.168.1.5");
    for text in ["0.0.0.0", "plant.example:8443", "plantserver", "https://plant.example"] {
        let said = advertise(text).unwrap_err().to_string();
        assert!(said.contains("TWINHUB_ADVERTISE") && said.contains("carries no port"), "{said}");
    }
}

#[test]
fn records_lie_in_the_data_directory_unless_told_otherwise() {
    let location = |store: &str| {
        let variables = [("TWINHUB_STORE", store), ("TWINHUB_DATA_DIR", "/d")];
        Layers::gather(&Flags::default(), environment(&variables)).unwrap().config().unwrap().store
    };
    assert_eq!(location("sqlite://"), store::Location::File("/d".into()));
    assert_eq!(location("sqlite:///elsewhere"), store::Location::File("/elsewhere".into()));
    assert_eq!(location("sqlite::memory:"), store::Location::Memory);
    let database = "postgres://hub:secret@db/twinhub";
    assert_eq!(location(database), store::Location::Postgres(base::Secret::new(database)));
}

#[test]
fn a_connection_string_may_stand_in_a_file_and_is_never_shown() {
    let (_directory, path) = file("postgres://hub:secret@db/twinhub\n");
    let path = path.to_str().unwrap();
    let variables = [("TWINHUB_STORE_FILE", path), ("TWINHUB_DATA_DIR", "/d")];
    let layers = Layers::gather(&Flags::default(), environment(&variables)).unwrap();
    let told = store::Location::Postgres(base::Secret::new("postgres://hub:secret@db/twinhub"));
    assert_eq!(layers.config().unwrap().store, told);
    let variables = [("TWINHUB_STORE", "postgresql://hub:secret@db/twinhub"), ("TWINHUB_DATA_DIR", "/d")];
    let layers = Layers::gather(&Flags::default(), environment(&variables)).unwrap();
    assert!(layers.rows().all(|(_, value, _)| !value.contains("secret")));
    let misspelt = [("TWINHUB_STORE", "Postgres://hub:secret@db/twinhub"), ("TWINHUB_DATA_DIR", "/d")];
    let refused = Layers::gather(&Flags::default(), environment(&misspelt)).unwrap().config().unwrap_err();
    assert!(!refused.to_string().contains("secret"), "{refused}");
}

#[test]
fn resource_manager_can_be_told_to_mask_and_to_wait_as_the_live_service_does() {
    let (_directory, path) = file("[resource_manager]\nmask = 'placeholder'\nretry_after_seconds = 3");
    let flags = Flags { config_file: Some(path), ..Flags::default() };
    let variables = [("TWINHUB_RESOURCE_MANAGER__RETRY_AFTER_SECONDS", "10")];
    let told = Layers::gather(&flags, environment(&variables)).unwrap().config().unwrap().resource_manager;
    assert_eq!((told.mask, told.retry_after_seconds), (resource_manager::endpoint::Mask::Placeholder, 10));
    let untold =
        Layers::gather(&Flags::default(), environment(&[])).unwrap().config().unwrap().resource_manager;
    let default = resource_manager::Settings::default();
    assert_eq!((untold.mask, untold.retry_after_seconds), (default.mask, default.retry_after_seconds));
}
