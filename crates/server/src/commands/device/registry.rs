//! Devices and modules in the registry: made, listed, shown, removed, and their keys.

use std::time::Duration;

use base::Key;
use base::caps;
use base::ids::IdentityId;
use serde_json::{Value, json};
use server::out;

use super::fault::Doing;
use super::hub::Hub;
use super::identity::{self, Identity, arguments, path, spoken};
use super::next::{ByCertificate, Next};
use super::table;
use super::{At, CreateArgs, KeyName, KeysArgs, ListArgs, NameArgs, SasArgs, fault};
use crate::Failure;

const KEY_BYTES: usize = 32;

pub(super) async fn create(at: &At, args: &CreateArgs) -> Result<(), Failure> {
    let authentication = asked_authentication(&args.thumbprint)?;
    let id = identity::parse(&args.who.name, args.who.module.as_deref())?;
    let hub = Hub::find(at).await?;
    let mut asked = json!({"deviceId": id.device_id, "authentication": authentication});
    match &id.module_id {
        Some(module_id) => asked["moduleId"] = json!(module_id),
        None => asked["capabilities"] = json!({"iotEdge": args.edge}),
    }
    let body = hub.call("PUT", &path("devices", &id), &[], &asked).await;
    let body = match body {
        Ok(body) => body,
        Err(error) => return Err(fault::explain(&hub, &id, Doing::Make, error).await),
    };
    let identity = Identity { id, body };
    if !args.thumbprint.is_empty() {
        let next = ByCertificate { hub: &hub, identity: &identity };
        if at.json {
            out::line(format_args!("{:#}", next.json()));
        } else {
            out::write(next.text());
        }
        return Ok(());
    }
    let next = Next::of(&hub, &identity)?;
    if at.json {
        out::line(format_args!("{:#}", next.json()));
    } else {
        out::write(next.text());
    }
    Ok(())
}

/// Keys that the hub makes, unless there are certificates. `openssl x509 -fingerprint` writes colons, which the hub does not take.
fn asked_authentication(thumbprints: &[String]) -> Result<Value, Failure> {
    let bare: Vec<_> = thumbprints.iter().map(|text| text.replace(':', "")).collect();
    match &bare[..] {
        [] => Ok(json!({"type": "sas"})),
        [primary, rest @ ..] if rest.len() <= 1 => Ok(json!({
            "type": "selfSigned",
            "x509Thumbprint": {"primaryThumbprint": primary, "secondaryThumbprint": rest.first()},
        })),
        _ => Err("an identity has two thumbprints at most: give --thumbprint once or twice".into()),
    }
}

pub(super) async fn list(at: &At, args: &ListArgs) -> Result<(), Failure> {
    let hub = Hub::find(at).await?;
    match &args.name {
        Some(name) => list_modules(&hub, name).await,
        None => list_devices(&hub).await,
    }
}

async fn list_devices(hub: &Hub) -> Result<(), Failure> {
    let most = caps::DEVICE_LIST_MAX;
    let devices = hub.get(&format!("/devices?top={most}")).await;
    let devices = devices.map_err(|error| failure(hub, error))?;
    let all = devices.as_array().map_or(&[][..], Vec::as_slice);
    if hub.prints_json() {
        out::line(format_args!("{devices:#}"));
    } else if all.is_empty() {
        let remedy = hub.command("device create NAME");
        out::line(format_args!("{} has no devices yet: make one with {remedy}", hub.name));
    } else {
        let row = |device: &Value| {
            let text = |name: &str| device[name].as_str().unwrap_or_default().to_owned();
            let times = table::time(&text("lastActivityTime"));
            [text("deviceId"), text("status"), text("connectionState"), authentication(device), times]
        };
        let rows: Vec<_> = all.iter().map(row).collect();
        let heading = ["DEVICE", "STATUS", "CONNECTION", "AUTHENTICATION", "LAST ACTIVITY"];
        out::write(table::columns(heading, &rows));
    }
    if all.len() == most {
        let total = hub.get("/statistics/devices").await.unwrap_or_default();
        let total = total["totalDeviceCount"].as_u64().unwrap_or_default();
        eprintln!("twinhub: these are {most} of {total} devices, as many as the service lists");
    }
    Ok(())
}

async fn list_modules(hub: &Hub, name: &str) -> Result<(), Failure> {
    // A hub does not say of a list that its device is missing.
    let device = Identity::find(hub, name, None).await?;
    let modules = hub.get(&format!("{}/modules", path("devices", &device.id))).await;
    let modules = modules.map_err(|error| failure(hub, error))?;
    let all = modules.as_array().map_or(&[][..], Vec::as_slice);
    if hub.prints_json() {
        out::line(format_args!("{modules:#}"));
    } else if all.is_empty() {
        let remedy = hub.command(&format!("device create {} --module NAME", arguments(&device.id)));
        out::line(format_args!("device {name} has no modules: make one with {remedy}"));
    } else {
        let row = |module: &Value| {
            let text = |name: &str| module[name].as_str().unwrap_or_default().to_owned();
            let times = table::time(&text("lastActivityTime"));
            [text("moduleId"), text("connectionState"), authentication(module), times]
        };
        let rows: Vec<_> = all.iter().map(row).collect();
        out::write(table::columns(["MODULE", "CONNECTION", "AUTHENTICATION", "LAST ACTIVITY"], &rows));
    }
    Ok(())
}

fn authentication(identity: &Value) -> String {
    identity["authentication"]["type"].as_str().unwrap_or_default().to_owned()
}

fn failure(hub: &Hub, error: server::client::ClientError) -> Failure {
    match error {
        server::client::ClientError::Service(refusal) => fault::refused(hub, &refusal),
        other => other.into(),
    }
}

pub(super) async fn show(at: &At, args: &NameArgs) -> Result<(), Failure> {
    let hub = Hub::find(at).await?;
    let identity = Identity::find(&hub, &args.name, args.module.as_deref()).await?;
    if at.json {
        out::line(format_args!("{:#}", identity.body));
        return Ok(());
    }
    let modules =
        if identity.id.module_id.is_none() { modules(&hub, &identity.id).await } else { String::new() };
    let text = |member: &str| identity.text(member).to_owned();
    let since = table::time(identity.text("connectionStateUpdatedTime"));
    let connection = match since.as_str() {
        "never" => text("connectionState"),
        since => format!("{} since {since}", text("connectionState")),
    };
    let edge = identity.body["capabilities"]["iotEdge"] == true;
    out::write(table::labelled(&[
        ("device", text("deviceId")),
        ("module", text("moduleId")),
        ("hub", format!("{} at {}", hub.name, hub.device_host())),
        ("status", text("status")),
        ("reason", text("statusReason")),
        ("connection", connection),
        ("last activity", table::time(identity.text("lastActivityTime"))),
        ("authentication", authentication(&identity.body)),
        ("IoT Edge", if edge { "yes".to_owned() } else { String::new() }),
        ("managed by", text("managedBy")),
        ("modules", modules),
        ("etag", text("etag")),
    ]));
    Ok(())
}

async fn modules(hub: &Hub, id: &IdentityId) -> String {
    let modules = hub.get(&format!("{}/modules", path("devices", id))).await.unwrap_or_default();
    let names = modules.as_array().into_iter().flatten().filter_map(|module| module["moduleId"].as_str());
    names.collect::<Vec<_>>().join(", ")
}

pub(super) async fn delete(at: &At, args: &NameArgs) -> Result<(), Failure> {
    let id = identity::parse(&args.name, args.module.as_deref())?;
    let hub = Hub::find(at).await?;
    let gone = hub.call("DELETE", &path("devices", &id), &[("if-match", "*")], &Value::Null).await;
    if let Err(error) = gone {
        return Err(fault::explain(&hub, &id, Doing::Remove, error).await);
    }
    if at.json {
        out::line(json!({"deviceId": id.device_id, "moduleId": id.module_id, "deleted": true}));
    } else {
        out::line(format_args!("{} is gone", spoken(&id)));
    }
    Ok(())
}

pub(super) async fn keys(at: &At, args: &KeysArgs) -> Result<(), Failure> {
    let hub = Hub::find(at).await?;
    let mut identity = Identity::find(&hub, &args.who.name, args.who.module.as_deref()).await?;
    if let Some(which) = args.regenerate {
        identity = regenerate(&hub, identity, which).await?;
    }
    let primary = (identity.key(KeyName::Primary)?, identity.connection_string(&hub, KeyName::Primary)?);
    let secondary =
        (identity.key(KeyName::Secondary)?, identity.connection_string(&hub, KeyName::Secondary)?);
    if at.json {
        out::line(format_args!(
            "{:#}",
            json!({
                "primaryKey": primary.0.text(), "secondaryKey": secondary.0.text(),
                "primaryConnectionString": primary.1, "secondaryConnectionString": secondary.1,
            })
        ));
    } else {
        out::write(table::labelled(&[
            ("primary key", primary.0.text().to_owned()),
            ("secondary key", secondary.0.text().to_owned()),
            ("primary connection string", primary.1),
            ("secondary connection string", secondary.1),
        ]));
    }
    Ok(())
}

/// Replaces one key of the identity as it was read, and nothing of a newer one.
async fn regenerate(hub: &Hub, identity: Identity, which: KeyName) -> Result<Identity, Failure> {
    identity.key(which)?;
    let Identity { id, mut body } = identity;
    let name = match which {
        KeyName::Primary => "primaryKey",
        KeyName::Secondary => "secondaryKey",
    };
    body["authentication"]["symmetricKey"][name] = json!(Key::generate(KEY_BYTES).text());
    let etag = format!("\"{}\"", body["etag"].as_str().unwrap_or_default());
    match hub.call("PUT", &path("devices", &id), &[("if-match", &etag)], &body).await {
        Ok(body) => Ok(Identity { id, body }),
        Err(error) => Err(fault::explain(hub, &id, Doing::Change, error).await),
    }
}

pub(super) async fn sas(at: &At, args: &SasArgs) -> Result<(), Failure> {
    let hub = Hub::find(at).await?;
    let identity = Identity::find(&hub, &args.who.name, args.who.module.as_deref()).await?;
    let login = identity.login(&hub, Duration::from_secs(args.ttl))?;
    if at.json {
        out::line(json!({"sasToken": login.token, "sasTokenEndsAt": login.ends_at()}));
    } else {
        out::line(login.token);
    }
    Ok(())
}
