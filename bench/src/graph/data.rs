//! A plant as a graph: sites contain buildings, these floors, these rooms, these sensors; rooms feed each other, sensors feed rooms. The same
//! twins and relationships go to every side.

use serde_json::{Value, json};

const FLOORS: usize = 20;
const ROOMS: usize = 20;
const SENSORS: usize = 7;
/// A building with everything in it.
const TWINS_PER_BUILDING: usize = 1 + FLOORS + FLOORS * ROOMS + FLOORS * ROOMS * SENSORS;

#[derive(Clone, Copy)]
pub(super) struct Plant {
    pub(super) buildings: usize,
}

pub(super) struct Twin {
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) serial: String,
    pub(super) temperature: f64,
}

pub(super) struct Edge {
    pub(super) source: String,
    pub(super) name: &'static str,
    pub(super) target: String,
}

impl Plant {
    pub(super) fn of(twins: usize) -> Self {
        Self { buildings: (twins / TWINS_PER_BUILDING).max(1) }
    }

    pub(super) fn twins(self) -> usize {
        self.buildings * TWINS_PER_BUILDING
    }
}

/// The building with all that is below it, parents first.
pub(super) fn building_of(number: usize) -> (Vec<Twin>, Vec<Edge>) {
    let (mut twins, mut edges) = (Vec::new(), Vec::new());
    let building = building(number);
    twins.push(twin(&building, "Building"));
    for floor in 0..FLOORS {
        let floor_id = format!("{building}-f{floor:02}");
        twins.push(twin(&floor_id, "Floor"));
        edges.push(edge(&building, "contains", &floor_id));
        for room in 0..ROOMS {
            let room_id = format!("{floor_id}-r{room:02}");
            twins.push(twin(&room_id, "Room"));
            edges.push(edge(&floor_id, "contains", &room_id));
            for sensor in 0..SENSORS {
                let sensor_id = sensor_of(&room_id, sensor);
                twins.push(twin(&sensor_id, "Sensor"));
                edges.push(edge(&room_id, "contains", &sensor_id));
                // Every other sensor feeds another room of its floor: half as many relationships again.
                if sensor.is_multiple_of(2) {
                    edges.push(edge(&sensor_id, "feeds", &format!("{floor_id}-r{:02}", (room + 1) % ROOMS)));
                }
            }
        }
    }
    (twins, edges)
}

fn building(number: usize) -> String {
    format!("b{number:04}")
}

fn sensor_of(room: &str, sensor: usize) -> String {
    format!("{room}-s{sensor}")
}

fn twin(id: &str, kind: &'static str) -> Twin {
    let mixed = mix(id.bytes().fold(7, |sum: u64, byte| sum.wrapping_mul(31) + u64::from(byte)));
    #[expect(clippy::cast_precision_loss, reason = "below a thousand")]
    let temperature = 10.0 + (mixed % 1000) as f64 / 50.0;
    Twin { id: id.to_owned(), kind, serial: format!("SN-{id}"), temperature }
}

fn edge(source: &str, name: &'static str, target: &str) -> Edge {
    Edge { source: source.to_owned(), name, target: target.to_owned() }
}

pub(super) fn mix(number: u64) -> u64 {
    let mixed = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ (mixed >> 31)).wrapping_mul(0xD6E8_FEB8_6659_FD93).rotate_left(29)
}

/// Which of `count` the question of this number is about.
fn pick(number: u64, count: usize) -> usize {
    usize::try_from(mix(number) % count as u64).expect("less than a count")
}

/// What the question of this number is about.
pub(super) fn some_building(plant: Plant, number: u64) -> String {
    building(pick(number, plant.buildings))
}

pub(super) fn some_sensor(plant: Plant, number: u64) -> String {
    let building = some_building(plant, number);
    let (floor, room) = (pick(number ^ 0xF0, FLOORS), pick(number ^ 0x0F, ROOMS));
    sensor_of(&format!("{building}-f{floor:02}-r{room:02}"), pick(number ^ 0xFF, SENSORS))
}

impl Edge {
    pub(super) fn id(&self) -> String {
        format!("{}-{}", self.name, self.target)
    }

    pub(super) fn body(&self) -> Value {
        json!({"$targetId": self.target, "$relationshipName": self.name})
    }

    pub(super) fn document(&self) -> Value {
        json!({"$relationshipId": self.id(), "$etag": "W/\"ffffffff-ffff-ffff-ffff-ffffffffffff\"", "$sourceId": self.source,
            "$relationshipName": self.name, "$targetId": self.target})
    }
}

impl Twin {
    /// About a kilobyte as it is stored.
    pub(super) fn body(&self) -> Value {
        json!({
            "$metadata": {"$model": model_id(self.kind)},
            "serial": self.serial,
            "temperature": self.temperature,
            "name": format!("{} {}", self.kind, self.id),
            "manufacturer": "Example Works of Measuring Instruments",
            "notes": "Installed with the first stage of the plant, calibrated each spring, spare parts in store 7. ".repeat(3),
        })
    }

    /// As twinhub answers it, for those who are given documents.
    pub(super) fn document(&self) -> Value {
        let mut document = json!({"$dtId": self.id, "$etag": "W/\"ffffffff-ffff-ffff-ffff-ffffffffffff\""});
        let mut body = self.body();
        let time = json!({"lastUpdateTime": "2026-01-01T00:00:00.0000000Z"});
        for name in PROPERTIES {
            body["$metadata"][name] = time.clone();
        }
        if let (Some(document), Value::Object(body)) = (document.as_object_mut(), body) {
            document.extend(body);
        }
        document
    }
}

const PROPERTIES: [&str; 5] = ["serial", "temperature", "name", "manufacturer", "notes"];

fn model_id(kind: &str) -> String {
    format!("dtmi:bench:{kind};1")
}

pub(super) fn models() -> Vec<Value> {
    let model = |kind: &str| {
        let mut contents: Vec<Value> = PROPERTIES
            .iter()
            .map(|name| {
                let schema = if *name == "temperature" { "double" } else { "string" };
                json!({"@type": "Property", "name": name, "schema": schema, "writable": true})
            })
            .collect();
        contents.extend(["contains", "feeds"].map(|name| json!({"@type": "Relationship", "name": name})));
        json!({"@id": model_id(kind), "@type": "Interface", "@context": "dtmi:dtdl:context;2", "contents": contents})
    };
    ["Building", "Floor", "Room", "Sensor"].map(model).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_building_has_what_the_questions_count() {
        let (twins, edges) = building_of(1);
        assert_eq!(twins.len(), TWINS_PER_BUILDING);
        let contained = edges.iter().filter(|edge| edge.name == "contains").count();
        assert_eq!(contained, twins.len() - 1);
        assert!(edges.iter().all(|edge| twins.iter().any(|twin| twin.id == edge.target)));
        let sensors: Vec<&Twin> = twins.iter().filter(|twin| twin.kind == "Sensor").collect();
        assert_eq!(sensors.len(), 2800);
        assert!(
            (0..50)
                .map(|number| some_sensor(Plant { buildings: 1 }, number))
                .all(|id| id.starts_with("b0000-"))
        );
        let bytes = sensors[0].document().to_string().len();
        assert!((800..1300).contains(&bytes), "{bytes}");
    }
}
