//! Digital twins: models, twins, relationships, telemetry, event routes and queries of one Azure Digital Twins instance.
//! Called by the doors and by the resource manager. It must never know HTTP.

mod digital_twin;
mod error;
mod event;
mod event_route;
#[cfg(test)]
mod fixture;
mod ids;
mod instance;
mod model;
mod query;
mod relationship;
mod telemetry;

pub use base::json_patch;
pub use digital_twin::{Component, DigitalTwin};
pub use dtdl::{Dtmi, LanguageMap};
pub use error::Error;
pub use event_route::{EventRoute, NewEventRoute};
pub use ids::{DigitalTwinId, EventRouteId, RelationshipId};
pub use instance::{Context, Instance, InstanceSettings, Instances};
pub use model::{ModelData, ModelQuery, model_issues};
pub use query::{Query, QueryPage};
pub use relationship::Relationship;
pub use telemetry::Telemetry;
