//! Both published ontologies go in through model uploads of at most 250, dependencies first, as the CLI sends them.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};

use access::Caller;
use base::hosts::{Hosts, NoMachine};
use base::{Clock, InstanceId, Scope, Throttle, Timestamp, caps};
use digital_twins::{Context, Instance, InstanceSettings, Instances, ModelQuery};
use serde_json::Value;
use store::Store;

fn ontology(name: &str) -> Option<Vec<Value>> {
    let ontology = test_data::shared_json(&format!("data/ontologies/{name}"))?;
    Some(ontology.as_array().unwrap().clone())
}

fn references(model: &Value) -> BTreeSet<String> {
    fn walk(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::String(text) if text.starts_with("dtmi:") => drop(found.insert(text.clone())),
            Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            Value::Object(members) => members.values().for_each(|member| walk(member, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    walk(&model["extends"], &mut found);
    let contents = model["contents"].as_array().into_iter().flatten();
    let components = contents.filter(|content| {
        let kind = &content["@type"];
        kind == "Component"
            || kind.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "Component"))
    });
    components.for_each(|component| walk(&component["schema"], &mut found));
    found
}

/// Every model behind all that it needs.
fn dependencies_first(models: Vec<Value>) -> Vec<Value> {
    let mut waiting: BTreeMap<String, Value> =
        models.into_iter().map(|model| (model["@id"].as_str().unwrap().to_owned(), model)).collect();
    let mut ordered = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let ready: Vec<String> = waiting
            .iter()
            .filter(|(_, model)| references(model).iter().all(|id| !waiting.contains_key(id)))
            .map(|(id, _)| id.clone())
            .collect();
        assert!(!ready.is_empty(), "the ontology has a cycle");
        ordered.extend(ready.into_iter().filter_map(|id| waiting.remove(&id)));
    }
    ordered
}

async fn instance(store: &Store) -> (Instances, Instance) {
    let instances = Instances::new(Context {
        store: store.clone(),
        clock: Clock::manual(Timestamp::from_unix_seconds(1_700_000_000)),
        throttle: Throttle::unlimited(),
        hosts: Hosts::new("localhost", 443, NoMachine),
    });
    let settings = InstanceSettings {
        instance: InstanceId::from_stored("twins-0"),
        name: "twins".to_owned(),
        scope: Scope::new("/subscriptions/s/twins"),
        location: "eastus".to_owned(),
        public_network_access: true,
        is_default: true,
    };
    let instance = instances.ensure(settings).await.unwrap();
    (instances, instance)
}

async fn loads(name: &str, count: usize) {
    let Some(models) = ontology(name) else { return };
    assert_eq!(models.len(), count);
    let (store, _) = test_store::open();
    let (_, twins) = instance(&store).await;
    let caller = Caller::system();
    let ordered = dependencies_first(models);
    for batch in ordered.chunks(caps::MODELS_PER_CALL_MAX) {
        let created = twins.create_models(&caller, Value::from(batch).to_string().into()).await.unwrap();
        assert_eq!(created.len(), batch.len());
    }
    // A process that starts on the same store has them all too, in the same order.
    let (_, restarted) = instance(&store).await;
    for twins in [twins, restarted] {
        let mut query = ModelQuery { include_definition: true, ..ModelQuery::default() };
        let mut found = Vec::new();
        loop {
            let page = twins.list_models(&caller, &query).await.unwrap();
            found.extend(page.items.into_iter().filter_map(|model| model.definition));
            match page.next {
                Some(next) => query.continuation = Some(next),
                None => break,
            }
        }
        assert!(found == ordered, "{name} does not come back as it was uploaded");
    }
}

#[tokio::test]
async fn the_building_ontology_of_dtdl_3_loads() {
    loads("opendigitaltwins-building.json", 767).await;
}

#[tokio::test]
async fn real_estate_core_of_dtdl_2_loads() {
    loads("realestatecore-rec-dtdlv2.json", 1364).await;
}
