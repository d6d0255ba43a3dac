//! What a full set of Digital Twins models costs at start and in memory: two servers that differ in their models alone.
//! The models are versions of each other and share identifiers inside, as those of a published library do.

use std::path::Path;

use base::caps;
use serde_json::{Value, json};

use crate::clock::now;
use crate::report::{Better, Comparison, Metric};
use crate::start::{self, Seen, start_twinhub};
use crate::statistics::Series;
use crate::twinhub::Twinhub;
use crate::{Bench, Failure, progress};

const MODELS: usize = 10_000;
/// Each has as many properties, of which every fourth has a schema of its own: about 4 kB of text.
const PROPERTIES: usize = 16;

pub(crate) async fn run(bench: &Bench) -> Result<Vec<Comparison>, Failure> {
    let (with, without) = (bench.scratch.path().join("models"), bench.scratch.path().join("models-none"));
    let uploads = upload_all(bench, &with).await?;
    start_twinhub(bench, &without, &mut Seen::default()).await?;
    let (mut full, mut empty) = (Seen::default(), Seen::default());
    for number in 1..=bench.rounds {
        progress(&format!("round {number} of {}", bench.rounds));
        start_twinhub(bench, &with, &mut full).await?;
        start_twinhub(bench, &without, &mut empty).await?;
    }
    let calls = Comparison {
        title: format!("Uploads of {} models until there are {MODELS}", caps::MODELS_PER_CALL_MAX),
        subject: "twinhub",
        anchor: None,
        metrics: vec![Metric {
            name: "a call",
            unit: "ms",
            better: Better::Lower,
            subject: uploads,
            anchor: None,
        }],
    };
    let title = format!("Start with {MODELS} models beside a start with none");
    Ok(vec![start::comparison(&title, &full, Some(("no models", &empty))), calls])
}

/// Milliseconds of each call.
async fn upload_all(bench: &Bench, data_dir: &Path) -> Result<Series, Failure> {
    progress(&format!("uploading {MODELS} models"));
    let server = Twinhub::start(&bench.server, data_dir).await?;
    let authorization = server.digital_twins.sign_in().await?;
    let mut calls = Series::default();
    let per_call = caps::MODELS_PER_CALL_MAX;
    // Within a call names differ; the next call has the next version of each.
    for version in 1..=MODELS / per_call {
        let models: Vec<Value> = (0..per_call).map(|number| model(number, version)).collect();
        let start = now();
        server.digital_twins.upload(&authorization, &models).await?;
        calls.0.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    server.process.stop().await?;
    Ok(calls)
}

fn model(number: usize, version: usize) -> Value {
    let property = |at: usize| {
        let schema = if at.is_multiple_of(4) {
            json!({"@type": "Enum", "@id": format!("dtmi:bench:m{number}:schema{at};1"), "valueSchema": "integer",
                "enumValues": [{"name": "off", "enumValue": 0}, {"name": "on", "enumValue": 1}]})
        } else {
            json!("double")
        };
        json!({"@type": "Property", "@id": format!("dtmi:bench:m{number}:property{at};1"), "name": format!("property{at}"),
            "displayName": {"en": format!("Property {at}")}, "description": "What it measures, and how.", "schema": schema})
    };
    let mut contents: Vec<Value> = (0..PROPERTIES).map(property).collect();
    contents.push(
        json!({"@type": "Relationship", "@id": format!("dtmi:bench:m{number}:feeds;1"), "name": "feeds"}),
    );
    json!({"@id": format!("dtmi:bench:m{number};{version}"), "@type": "Interface", "@context": "dtmi:dtdl:context;3",
        "displayName": {"en": format!("Model {number}")}, "description": "A model of the benchmark.", "contents": contents})
}
