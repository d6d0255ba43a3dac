//! Digital twins that are made, changed and deleted, each by one who knows what became of every change; and what was told of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use access::Caller;
use base::json::Object;
use base::{IfMatch, IfNoneMatch};
use digital_twins::{DigitalTwinId, Error, Instance, json_patch};
use events::Event;
use events::headers::Property;
use fastrand::Rng;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::house::House;
use crate::world::{Outcome, World};

pub(crate) const MODEL: &str = "dtmi:simulated:Room;1";

pub(crate) fn model() -> Value {
    json!([{"@id": MODEL, "@type": "Interface", "@context": "dtmi:dtdl:context;2", "contents": [
        {"@type": "Property", "name": "n", "schema": "integer"},
        {"@type": "Relationship", "name": "contains", "properties": [
            {"@type": "Property", "name": "n", "schema": "integer", "writable": true}]}]}])
}

/// Changes in the order in which they were committed, by twin: what an event of each must say.
pub(crate) type Committed = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

pub(crate) fn instance(house: &House) -> Instance {
    house.instances.find("twins").expect("nobody removes the default instance")
}

/// Alone with this twin.
pub(crate) async fn change_twin(world: Arc<World>, name: String, committed: Committed) {
    let mut rng = world.fork();
    let (mut is, mut number) = (None, 0_i64);
    while !world.is_over() {
        world.pause(&mut rng, 300).await;
        number += 1;
        let wanted = match rng.u8(0..8) {
            0 => None,
            _ => Some(number),
        };
        let now = one_change(&world, &name, is, wanted, &mut rng).await;
        if let Some(told) = told_of(is, now) {
            committed.lock().entry(name.clone()).or_default().push(told);
        }
        is = now;
    }
}

/// What an event of such a change must say.
pub(crate) fn told_of(is: Option<i64>, now: Option<i64>) -> Option<String> {
    match (is, now) {
        (None, Some(n)) => Some(format!("Create {n}")),
        (Some(n), None) => Some(format!("Delete {n}")),
        (Some(before), Some(n)) if before != n => Some(format!("Update {n}")),
        _ => None,
    }
}

/// Gives what is there then.
async fn one_change(
    world: &World,
    name: &str,
    is: Option<i64>,
    wanted: Option<i64>,
    rng: &mut Rng,
) -> Option<i64> {
    let id: DigitalTwinId = name.parse().expect("a twin's id");
    let caller = Caller::system();
    let what = format!("{name} from {is:?} to {wanted:?}");
    let outcome = match wanted {
        None => {
            let deleted = world.ask(what.clone(), async |house| {
                instance(house).delete_digital_twin(&caller, &id, &IfMatch::Absent).await
            });
            deleted.await
        }
        Some(n) if is.is_some() && rng.bool() => {
            let patch = json!([{"op": "replace", "path": "/n", "value": n}]).to_string();
            let patch = json_patch::parse(patch.as_bytes()).expect("a patch");
            let patched = world.ask(what.clone(), async |house| {
                instance(house).update_digital_twin(&caller, &id, &patch, &IfMatch::Absent).await.map(drop)
            });
            patched.await
        }
        Some(n) => {
            let body = object(json!({"$metadata": {"$model": MODEL}, "n": n}));
            let put = world.ask(what.clone(), async |house| {
                instance(house).put_digital_twin(&caller, &id, &body, &IfNoneMatch::Absent).await.map(drop)
            });
            put.await
        }
    };
    let now = look(world, name).await;
    let is_right = match outcome {
        Outcome::Answered(Ok(())) => now == wanted,
        Outcome::Answered(Err(Error::DigitalTwinNotFound(_))) => is.is_none() && now.is_none(),
        Outcome::Answered(Err(_)) | Outcome::Cut => now == wanted || now == is,
    };
    if !is_right {
        world.fail(format!("{what}: it is {now:?}"));
    }
    now
}

/// Asks for what its model does not allow.
pub(crate) async fn refused(house: &House) {
    let (id, body) = ("nobody".parse(), object(json!({"$metadata": {"$model": MODEL}, "n": "text"})));
    if let (Some(twins), Ok(id)) = (house.instances.find("twins"), id) {
        let put = twins.put_digital_twin(&Caller::system(), &id, &body, &IfNoneMatch::Absent).await;
        assert!(put.is_err(), "a twin was taken that its model does not allow");
    }
}

async fn look(world: &World, name: &str) -> Option<i64> {
    let id: DigitalTwinId = name.parse().expect("a twin's id");
    let found = world.insist(format!("look at {name}"), async |house| {
        match instance(house).get_digital_twin(&Caller::system(), &id).await {
            Ok(twin) => Ok(Some(twin)),
            Err(Error::DigitalTwinNotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    });
    found.await.map(|twin| twin.document().get("n").and_then(Value::as_i64).unwrap_or_default())
}

pub(crate) fn object(value: Value) -> Object {
    match value {
        Value::Object(members) => members,
        _ => Object::new(),
    }
}

/// Every change that was committed was told once, and in order; and nothing else.
pub(crate) fn check(world: &World, committed: &Committed, events: &[Event]) {
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in events {
        let (kind, subject) = (attribute(event, "type"), attribute(event, "subject"));
        let body: Value = serde_json::from_slice(&event.body).unwrap_or_default();
        let kind = kind.rsplit('.').next().unwrap_or_default();
        let changed = |step: &&Value| step["path"] == "/n";
        let patched = body["patch"].as_array().and_then(|patch| patch.iter().find(changed));
        let number = patched.map_or(&body["n"], |step| &step["value"]);
        told.entry(subject).or_default().push(format!("{kind} {number}"));
    }
    let committed = committed.lock();
    for (name, changes) in &*committed {
        let told = told.remove(name).unwrap_or_default();
        if told != *changes {
            let at = told.iter().zip(changes).take_while(|(told, change)| told == change).count();
            let (told, change) = (told.get(at), changes.get(at));
            world.fail(format!("{name}: change {at} is {change:?}, and told was {told:?}"));
        }
    }
    for (name, told) in told {
        world.fail(format!("{name}: {told:?} was told, and never happened"));
    }
    world.note(&format!("{} changes were told", committed.values().map(Vec::len).sum::<usize>()));
}

fn attribute(event: &Event, wanted: &str) -> String {
    let wanted = format!("cloudEvents:{wanted}");
    let mut found = event.properties().filter_map(|property| match property {
        Property::Application(name, value) if name == wanted => Some(value.to_owned()),
        _ => None,
    });
    found.next().unwrap_or_default()
}
