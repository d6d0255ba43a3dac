//! Telemetry published on behalf of a twin or one of its components. Called by the doors.
//! Nothing of it is stored but the event; its content is not held against the model, as with the service.

use access::{Caller, Permission};
use base::json::Object;
use base::{Meter, Timestamp, caps};
use store::{Batch, retry_on_conflict};

use crate::digital_twin::component;
use crate::{DigitalTwin, DigitalTwinId, Error, Instance, event};

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    pub message_id: String,
    pub source_time: Option<Timestamp>,
    pub body: Object,
}

impl Instance {
    /// `DigitalTwins_SendTelemetry`.
    pub async fn send_telemetry(
        &self,
        caller: &Caller,
        id: &DigitalTwinId,
        telemetry: &Telemetry,
    ) -> Result<(), Error> {
        let twin = self.start_telemetry(caller, id, telemetry).await?;
        self.raise(&twin, telemetry, None, twin.model()).await
    }

    /// `DigitalTwins_SendComponentTelemetry`.
    pub async fn send_component_telemetry(
        &self,
        caller: &Caller,
        id: &DigitalTwinId,
        component: &str,
        telemetry: &Telemetry,
    ) -> Result<(), Error> {
        let twin = self.start_telemetry(caller, id, telemetry).await?;
        twin.component(component).ok_or_else(|| component::not_found(id, component))?;
        let shape = retry_on_conflict(async || {
            let models = self.models().await?;
            self.shape(&models, twin.model()).await
        });
        let shape = shape.await?.ok();
        let declared = shape.as_ref().and_then(|shape| shape.resolved.component(component));
        // A twin whose model was deleted or does not compile has nothing better to say than its own model.
        let model = declared.map_or(twin.model(), |declared| declared.schema.as_str());
        self.raise(&twin, telemetry, Some(component), model).await
    }

    async fn start_telemetry(
        &self,
        caller: &Caller,
        id: &DigitalTwinId,
        telemetry: &Telemetry,
    ) -> Result<DigitalTwin, Error> {
        caller.require(Permission::DigitalTwinTelemetry, self.scope())?;
        self.charge(Meter::DigitalTwinWrite)?;
        if telemetry.message_id.is_empty() || telemetry.message_id.len() > caps::MESSAGE_ID_CHARACTERS_MAX {
            return Err(Error::MessageIdInvalid);
        }
        Ok(self.digital_twin(id).await?.record)
    }

    async fn raise(
        &self,
        twin: &DigitalTwin,
        telemetry: &Telemetry,
        component: Option<&str>,
        model: &str,
    ) -> Result<(), Error> {
        let raised = event::Telemetry {
            message_id: &telemetry.message_id,
            source_time: telemetry.source_time,
            component,
            model,
            body: &telemetry.body,
        };
        let mut batch = Batch::default();
        event::telemetry(self, &mut batch, twin, &raised);
        self.commit(batch).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Telemetry;
    use crate::fixture::{Fixture, id, object};

    #[tokio::test]
    async fn telemetry_is_told_with_its_message_id_source_and_model_and_stores_nothing() {
        let fixture = Fixture::with_models().await;
        fixture.listen().await;
        let twin = fixture.room("r").await;
        let before = fixture.events().await.len();
        let telemetry = Telemetry {
            message_id: "m1".to_owned(),
            source_time: Some("2022-01-20T02:03:00Z".parse().unwrap()),
            body: object(json!({"undeclared": [1, 2]})),
        };
        let (instance, caller) = (&fixture.instance, &fixture.caller);
        instance.send_telemetry(caller, &id("r"), &telemetry).await.unwrap();
        instance.send_component_telemetry(caller, &id("r"), "Thermostat", &telemetry).await.unwrap();
        let told = fixture.events().await.split_off(before);
        let of = |name: &str| told.iter().map(|event| event.attribute(name)).collect::<Vec<_>>();
        assert_eq!(of("id"), [Some("m1"); 2]);
        assert_eq!(of("type"), [Some("microsoft.iot.telemetry"); 2]);
        assert_eq!(of("source"), [Some("twins.api.eus.digitaltwins.localhost/digitaltwins/r"); 2]);
        assert_eq!(of("subject"), [None, Some("Thermostat")]);
        assert_eq!(of("dataschema"), [Some("dtmi:test:Room;1"), Some("dtmi:test:Thermostat;1")]);
        assert_eq!(of("time"), [Some("2022-01-20T02:03:00.0000000Z"); 2]);
        assert!(
            told.iter()
                .all(|event| event.data == json!({"undeclared": [1, 2]}) && event.partition_key == "r")
        );
        assert_eq!(fixture.get("r").await.unwrap(), twin);
    }
}
