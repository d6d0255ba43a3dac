//! Endpoints of Digital Twins instances, and the event routes that lead there.

use base::hosts::Service as Named;
use base::{ConnectionString, Secret};
use digital_twins::NewEventRoute;
use resource_manager::endpoint::{self, DeadLetter, EndpointRequest, EndpointType, Target};
use resource_manager::resource::Preconditions;
use resource_manager::{Resource, ResourceType};

use super::{Ground, Outcome, caller};
use crate::Failure;
use crate::seed::entries::digital_twins::{Endpoint, EventRoute, LeadsTo, keys};

/// The rule that every namespace has.
const RULE: &str = "RootManageSharedAccessKey";

pub(super) async fn endpoint(ground: &Ground, endpoint: &Endpoint) -> Result<Outcome, Failure> {
    let instance = ground.id(ResourceType::DigitalTwinsInstance, &endpoint.instance);
    let id = instance.child(ResourceType::DigitalTwinsEndpoint, &endpoint.name);
    let mut request = match &endpoint.leads_to {
        LeadsTo::EventHub { namespace, event_hub } => to_event_hub(ground, namespace, event_hub).await?,
        LeadsTo::Elsewhere(request) => (**request).clone(),
    };
    request.dead_letter_secret.clone_from(&endpoint.dead_letter);
    let outcome = match ground.find(&id).await? {
        None => Outcome::Made,
        Some(old) if is_as_said(&old, &request)? => return Ok(Outcome::Kept),
        Some(_) => Outcome::Changed,
    };
    let any = Preconditions::default();
    let accepted = ground.manager.put_endpoint(&caller(), &id, &request, &any).await?;
    ground.manager.finish_accepted(&accepted).await?;
    Ok(outcome)
}

async fn to_event_hub(ground: &Ground, namespace: &str, event_hub: &str) -> Result<EndpointRequest, Failure> {
    let id = ground.id(ResourceType::EventHubNamespace, namespace);
    if ground.find(&id.child(ResourceType::EventHub, event_hub)).await?.is_none() {
        return Err(format!("there is no event hub \"{event_hub}\" in a namespace \"{namespace}\"").into());
    }
    let rule = ground.manager.authorization_rule(&caller(), &id, RULE).await?;
    // By name: it is stored, and addresses change with the settings of the server.
    let host = ground.manager.hosts().canonical(Named::EventHubs, namespace, "");
    let string = |key: &base::Key| {
        let string = ConnectionString::to_namespace(&host, RULE, key, Some(event_hub));
        Some(Secret::new(string.expose()))
    };
    let (primary, secondary) = (string(&rule.primary_key), string(&rule.secondary_key));
    Ok(EndpointRequest { primary, secondary, ..keys(EndpointType::EventHub) })
}

/// What the seed leaves open an endpoint may have.
fn is_as_said(old: &Resource, request: &EndpointRequest) -> Result<bool, resource_manager::Error> {
    let old = endpoint::properties(old)?;
    let is_kept = |wanted: &Option<Secret>, now: Option<&Secret>| wanted.is_none() || wanted.as_ref() == now;
    let is_target = match &old.target {
        Target::Keys { primary, secondary, .. } => {
            is_kept(&request.primary, Some(primary)) && is_kept(&request.secondary, secondary.as_ref())
        }
        Target::TopicKeys { topic_endpoint, access_key1, access_key2 } => {
            request.topic_endpoint.as_ref() == Some(topic_endpoint)
                && is_kept(&request.primary, Some(access_key1))
                && is_kept(&request.secondary, access_key2.as_ref())
        }
        Target::Address { .. } | Target::Topic { .. } => false,
    };
    let dead_letter = match &old.dead_letter {
        Some(DeadLetter::Secret(secret)) => Some(secret),
        Some(DeadLetter::Uri(_)) | None => None,
    };
    Ok(is_target
        && old.target.endpoint_type() == request.endpoint_type
        && is_kept(&request.dead_letter_secret, dead_letter))
}

pub(super) async fn event_route(ground: &Ground, route: &EventRoute) -> Result<Outcome, Failure> {
    let instance = ground.instance(&route.instance)?;
    let wanted = NewEventRoute { endpoint_name: route.endpoint.clone(), filter: route.filter.clone() };
    let outcome = match instance.get_event_route(&caller(), &route.id).await {
        Ok(old) if (&old.endpoint_name, &old.filter) == (&wanted.endpoint_name, &wanted.filter) => {
            return Ok(Outcome::Kept);
        }
        Ok(_) => Outcome::Changed,
        Err(digital_twins::Error::EventRouteNotFound) => Outcome::Made,
        Err(error) => return Err(error.into()),
    };
    instance.put_event_route(&caller(), &route.id, &wanted).await?;
    Ok(outcome)
}
