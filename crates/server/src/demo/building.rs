//! The demo's building: a small model of ours, the graph made from it, and the question asked of it in the end.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::cloud::{self, Cloud};
use crate::fleet::Fault;

const FLOORS: usize = 4;
const ROOMS_PER_FLOOR: usize = 5;

const BUILDING: &str = "dtmi:twinhub:demo:Building;1";
const FLOOR: &str = "dtmi:twinhub:demo:Floor;1";
const SPACE: &str = "dtmi:twinhub:demo:Space;1";
const ROOM: &str = "dtmi:twinhub:demo:Room;1";
const THERMOSTAT: &str = "dtmi:twinhub:demo:Thermostat;1";

pub(super) struct Building {
    pub id: String,
    /// Ids of the rooms; each room's device has the same id.
    pub rooms: Vec<String>,
    pub twins: usize,
    pub relationships: usize,
}

fn models() -> Value {
    let interface = |id: &str, name: &str, extends: Option<&str>, contents: Value| {
        let mut model = json!({
            "@id": id, "@type": "Interface", "@context": "dtmi:dtdl:context;3", "displayName": name, "contents": contents,
        });
        if let Some(base) = extends {
            model["extends"] = json!(base);
        }
        model
    };
    json!([
        interface(SPACE, "Space", None, json!([{"@type": "Property", "name": "name", "schema": "string"}])),
        interface(
            BUILDING,
            "Building",
            Some(SPACE),
            json!([
                {"@type": "Property", "name": "address", "schema": "string"},
                {"@type": "Relationship", "name": "hasFloor", "target": FLOOR},
            ])
        ),
        interface(
            FLOOR,
            "Floor",
            Some(SPACE),
            json!([
                {"@type": "Property", "name": "level", "schema": "integer"},
                {"@type": "Relationship", "name": "hasRoom", "target": ROOM,
                 "properties": [{"@type": "Property", "name": "door", "schema": "string"}]},
            ])
        ),
        interface(
            ROOM,
            "Room",
            Some(SPACE),
            json!([
                {"@type": "Property", "name": "temperature", "schema": "double"},
                {"@type": "Property", "name": "humidity", "schema": "double"},
                {"@type": "Component", "name": "thermostat", "schema": THERMOSTAT},
                {"@type": "Relationship", "name": "adjoins", "target": ROOM},
            ])
        ),
        interface(
            THERMOSTAT,
            "Thermostat",
            None,
            json!([
                {"@type": "Property", "name": "setPoint", "schema": "double", "writable": true},
            ])
        ),
    ])
}

/// Loads the models, unless an earlier run of the demo has.
pub(super) async fn load_models(cloud: &Cloud) -> Result<usize, Fault> {
    let models = models();
    let count = models.as_array().map_or(0, Vec::len);
    let answer = cloud.twins("POST", "/models", &[], &models).await?;
    if !answer.status.is_success() && answer.status.as_u16() != 409 {
        return Err(Fault::unexpected(format!("{}: {}", answer.status, answer.json())));
    }
    let listed = cloud.twins("GET", &format!("/models/{ROOM}"), &[], &Value::Null).await?;
    if listed.json()["id"] != ROOM {
        return Err(Fault::unexpected(format!("the room's model does not come back: {}", listed.json())));
    }
    Ok(count)
}

pub(super) async fn build(cloud: &Cloud, run_id: &str) -> Result<Building, Fault> {
    let id = format!("building-{run_id}");
    let mut building = Building { id: id.clone(), rooms: Vec::new(), twins: 0, relationships: 0 };
    let twin = json!({"$metadata": {"$model": BUILDING}, "name": "Plant 1", "address": "Quay 7"});
    put_twin(cloud, &mut building, &id, &twin).await?;
    for level in 0..FLOORS {
        let floor = format!("floor-{run_id}-{level}");
        let twin = json!({"$metadata": {"$model": FLOOR}, "name": format!("Floor {level}"), "level": level});
        put_twin(cloud, &mut building, &floor, &twin).await?;
        relate(cloud, &mut building, &id, "hasFloor", &floor, json!({})).await?;
        for number in 0..ROOMS_PER_FLOOR {
            let room = format!("room-{run_id}-{level}{number:02}");
            let twin = json!({
                "$metadata": {"$model": ROOM}, "name": format!("Room {level}{number:02}"),
                "temperature": 0.0, "humidity": 50.0, "thermostat": {"$metadata": {}, "setPoint": 20.0},
            });
            put_twin(cloud, &mut building, &room, &twin).await?;
            relate(cloud, &mut building, &floor, "hasRoom", &room, json!({"door": "north"})).await?;
            if number > 0 {
                let previous = building.rooms.last().cloned().unwrap_or_default();
                relate(cloud, &mut building, &previous, "adjoins", &room, json!({})).await?;
            }
            building.rooms.push(room);
        }
    }
    Ok(building)
}

async fn put_twin(cloud: &Cloud, building: &mut Building, id: &str, twin: &Value) -> Result<(), Fault> {
    let answer = cloud.twins("PUT", &format!("/digitaltwins/{id}"), &[("if-none-match", "*")], twin).await?;
    cloud::expect_success(&answer, "twin")?;
    building.twins += 1;
    Ok(())
}

async fn relate(
    cloud: &Cloud,
    building: &mut Building,
    source: &str,
    name: &str,
    target: &str,
    mut properties: Value,
) -> Result<(), Fault> {
    properties["$relationshipName"] = json!(name);
    properties["$targetId"] = json!(target);
    let path = format!("/digitaltwins/{source}/relationships/{name}-{target}");
    let answer = cloud.twins("PUT", &path, &[], &properties).await?;
    cloud::expect_success(&answer, "relationship")?;
    building.relationships += 1;
    Ok(())
}

/// Asks for every room below the building and insists that each shows the temperature its device sent last.
pub(super) async fn warm_rooms(
    cloud: &Cloud,
    building: &Building,
    sent: &BTreeMap<String, f64>,
) -> Result<usize, Fault> {
    let query = format!(
        "SELECT R.$dtId AS room, R.temperature AS temperature FROM DIGITALTWINS B JOIN F RELATED B.hasFloor JOIN R RELATED F.hasRoom \
         WHERE B.$dtId = '{}' AND R.temperature > 0 AND IS_OF_MODEL(R, '{SPACE}')",
        building.id
    );
    let answer =
        cloud.twins("POST", "/query", &[("max-items-per-page", "100")], &json!({"query": query})).await?;
    cloud::expect_success(&answer, "query")?;
    let rows = answer.json();
    let rows = rows["value"].as_array().cloned().unwrap_or_default();
    if rows.len() != building.rooms.len() {
        return Err(Fault::unexpected(format!("{} of {} rooms answer", rows.len(), building.rooms.len())));
    }
    for row in &rows {
        let (room, shown) = (row["room"].as_str().unwrap_or_default(), row["temperature"].as_f64());
        if sent.get(room).copied() != shown {
            return Err(Fault::unexpected(format!(
                "{room} shows {shown:?}, its device sent {:?}",
                sent.get(room)
            )));
        }
    }
    Ok(rows.len())
}
