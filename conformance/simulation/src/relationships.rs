//! Relationships that are made, changed and deleted, each by one who knows what became of every change; and queries of the graph, which
//! see what was committed before them, whichever house is asked.

use std::sync::Arc;

use access::Caller;
use base::{IfMatch, IfNoneMatch};
use digital_twins::{DigitalTwinId, Error, Query, RelationshipId, json_patch};
use fastrand::Rng;
use serde_json::{Value, json};

use crate::graph::{Committed, MODEL, instance, object, told_of};
use crate::house::House;
use crate::world::{Outcome, World};

/// Twins that nobody deletes, though some try.
pub(crate) const ENDS: [&str; 3] = ["hall0", "hall1", "hall2"];

pub(crate) async fn make_ends(house: &House, committed: &Committed) -> Result<(), Error> {
    for name in ENDS {
        let body = object(json!({"$metadata": {"$model": MODEL}, "n": 0}));
        let (caller, id) = (Caller::system(), end(name));
        instance(house).put_digital_twin(&caller, &id, &body, &IfNoneMatch::Absent).await?;
        committed.lock().entry(name.to_owned()).or_default().push("Create 0".to_owned());
    }
    Ok(())
}

fn end(name: &str) -> DigitalTwinId {
    name.parse().expect("a twin's id")
}

/// One relationship, which nobody else changes.
struct Edge {
    source: &'static str,
    target: &'static str,
    name: String,
    is: Option<i64>,
}

/// Alone with this relationship.
pub(crate) async fn change(world: Arc<World>, number: usize, committed: Committed) {
    let (source, target) = (ENDS[number % ENDS.len()], ENDS[(number + 1) % ENDS.len()]);
    let mut edge = Edge { source, target, name: format!("edge{number}"), is: None };
    let (mut rng, mut last) = (world.fork(), 0);
    while !world.is_over() {
        world.pause(&mut rng, 800).await;
        last += 1;
        let wanted = (rng.u8(0..4) > 0).then_some(last);
        let now = edge.change(&world, wanted, &mut rng).await;
        if let Some(told) = told_of(edge.is, now) {
            let subject = format!("{source}/relationships/{}", edge.name);
            committed.lock().entry(subject).or_default().push(told);
        }
        edge.is = now;
        edge.query(&world).await;
        if edge.is.is_some() {
            edge.hold(&world).await;
        }
    }
}

impl Edge {
    fn id(&self) -> RelationshipId {
        self.name.parse().expect("a relationship's id")
    }

    /// Gives what is there then.
    async fn change(&self, world: &World, wanted: Option<i64>, rng: &mut Rng) -> Option<i64> {
        let what = format!("{} from {:?} to {wanted:?}", self.name, self.is);
        let by_patch = self.is.is_some() && rng.bool();
        let asked = world.ask(what.clone(), async |house| self.ask(house, wanted, by_patch).await);
        let outcome = asked.await;
        let now = self.look(world).await;
        let is_right = match outcome {
            Outcome::Answered(Ok(())) => now == wanted,
            Outcome::Answered(Err(Error::RelationshipNotFound { .. })) => self.is.is_none() && now.is_none(),
            Outcome::Answered(Err(_)) | Outcome::Cut => now == wanted || now == self.is,
        };
        if !is_right {
            world.fail(format!("{what}: it is {now:?}"));
        }
        now
    }

    async fn ask(&self, house: &House, wanted: Option<i64>, by_patch: bool) -> Result<(), Error> {
        let (twins, caller, source, id) = (instance(house), Caller::system(), end(self.source), self.id());
        let place = (&source, &id);
        match wanted {
            None => twins.delete_relationship(&caller, place, &IfMatch::Absent).await,
            Some(n) if by_patch => {
                let patch = json!([{"op": "replace", "path": "/n", "value": n}]).to_string();
                let patch = json_patch::parse(patch.as_bytes()).expect("a patch");
                twins.update_relationship(&caller, place, &patch, &IfMatch::Absent).await.map(drop)
            }
            Some(n) => {
                let body = object(json!({"$targetId": self.target, "$relationshipName": "contains", "n": n}));
                twins.put_relationship(&caller, place, &body, &IfNoneMatch::Absent).await.map(drop)
            }
        }
    }

    async fn look(&self, world: &World) -> Option<i64> {
        let (source, id) = (end(self.source), self.id());
        let found = world.insist(format!("look at {}", self.name), async |house| {
            match instance(house).get_relationship(&Caller::system(), &source, &id).await {
                Ok(found) => Ok(found.document().get("n").and_then(Value::as_i64)),
                Err(Error::RelationshipNotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        });
        found.await
    }

    /// By a join over both ends.
    async fn query(&self, world: &World) {
        let text = format!(
            "SELECT T, R FROM DIGITALTWINS S JOIN T RELATED S.contains R WHERE S.$dtId = '{}'",
            self.source
        );
        let query = Query { text: Some(text), continuation: None, page_max: None };
        let page = world.insist(format!("query {}", self.name), async |house| {
            instance(house).query(&Caller::system(), &query).await
        });
        let rows = page.await.rows;
        let rows = rows.iter().filter_map(|row| serde_json::from_str::<Value>(row.get()).ok());
        let mut found: Vec<_> =
            rows.filter(|row| row["R"]["$relationshipId"] == self.name.as_str()).collect();
        let row = found.pop();
        let n = row.as_ref().and_then(|row| row["R"]["n"].as_i64());
        let is_target = row.as_ref().is_none_or(|row| row["T"]["$dtId"] == self.target);
        if n != self.is || !found.is_empty() || !is_target {
            world.fail(format!("{} is {:?}, and a query finds {row:?}", self.name, self.is));
        }
    }

    /// A twin is not deleted while a relationship begins or ends there.
    async fn hold(&self, world: &World) {
        let deleted = world.ask(format!("delete {}", self.target), async |house| {
            instance(house).delete_digital_twin(&Caller::system(), &end(self.target), &IfMatch::Absent).await
        });
        if let Outcome::Answered(Ok(()) | Err(Error::DigitalTwinNotFound(_))) = deleted.await {
            world.fail(format!("{} was deleted while {} ends there", self.target, self.name));
        }
    }
}
