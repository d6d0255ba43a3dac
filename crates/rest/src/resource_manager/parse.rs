//! What requests have in common: ids from paths, JSON bodies, tags, identities, skip tokens.

use std::collections::BTreeMap;

use base::json::depth;
use base::{Continuation, IfMatch, IfNoneMatch};
use resource_manager::identity::IdentityRequest;
use resource_manager::resource::{NetworkAccess, Preconditions, Tags};
use resource_manager::{Error, GroupId, ResourceId, ResourceType, provider};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::api_version;
use super::error::{self, Refusal};
use crate::json::{self, Reading, Unreadable};
use crate::wire::Request;

pub(super) fn group(request: &Request) -> GroupId {
    GroupId::new(request.param("subscription"), request.param("group"))
}

/// The type that the end of the path names.
pub(super) fn resource_type(request: &Request) -> Result<ResourceType, Refusal> {
    api_version::provider_of(&request.segments)
        .and_then(|(namespace, type_path)| provider::find_type(&namespace, &type_path))
        .ok_or_else(|| error::unknown_path(&request.head))
}

/// The resource that the whole path names, a child or not.
pub(super) fn id(request: &Request) -> Result<ResourceId, Refusal> {
    let kind = resource_type(request)?;
    let name = request.segments.last().ok_or_else(|| error::unknown_path(&request.head))?;
    Ok(match kind.parent() {
        Some(parent) => resource(request, parent).child(kind, name),
        None => resource(request, kind),
    })
}

/// The resource whose children of a type the path asks for.
pub(super) fn parent(request: &Request, kind: ResourceType) -> Result<ResourceId, Refusal> {
    let parent = kind.parent().ok_or_else(|| error::unknown_path(&request.head))?;
    Ok(resource(request, parent))
}

/// The top-level resource that the path names.
pub(super) fn resource(request: &Request, resource_type: ResourceType) -> ResourceId {
    ResourceId::new(&group(request), resource_type, request.param("name"))
}

/// The top-level resource of whose part the path speaks: the hub before its certificates.
pub(super) fn owner(request: &Request) -> Result<ResourceId, Refusal> {
    let kind = api_version::provider_of(&request.segments)
        .and_then(|(namespace, path)| provider::find_type(&namespace, path.split('/').next()?));
    Ok(resource(request, kind.ok_or_else(|| error::unknown_path(&request.head))?))
}

/// A JSON body as `T`. What is not JSON, or not of the shape, is refused in Resource Manager's words.
pub(super) fn body<T: DeserializeOwned>(request: &Request) -> Result<T, Refusal> {
    let value: Value = json::read(&request.body, Reading::AsPublished).map_err(unreadable)?;
    if !value.is_object() || depth(&value) > base::caps::JSON_DEPTH_MAX {
        return Err(Refusal::content("The request content was invalid: a JSON object was expected."));
    }
    json::read_value(value, Reading::AsPublished).map_err(unreadable)
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err gives")]
fn unreadable(why: Unreadable) -> Refusal {
    Refusal::content(format!("The request content was invalid and could not be deserialized: '{why}'."))
}

/// `identity` of a body.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IdentityBody {
    #[serde(rename = "type")]
    kind: Option<String>,
    user_assigned_identities: Option<BTreeMap<String, Option<Value>>>,
}

impl IdentityBody {
    pub(super) fn read(self) -> Result<IdentityRequest, Error> {
        let users = self.user_assigned_identities.unwrap_or_default();
        let users = users.into_iter().map(|(id, value)| (id, value.is_some())).collect();
        IdentityRequest::parse_type(self.kind.as_deref().unwrap_or("None"), users)
    }
}

/// `publicNetworkAccess` of a body.
pub(super) fn network_access(text: &str) -> Result<NetworkAccess, Refusal> {
    NetworkAccess::parse(text).ok_or_else(|| {
        Refusal::content(format!(
            "The value '{text}' of 'publicNetworkAccess' is not one of 'Enabled' and 'Disabled'."
        ))
    })
}

/// Bodies that are round-tripped carry their name; another one than the path's is a mistake.
pub(super) fn check_name(request: &Request, param: &str, name: Option<&str>) -> Result<(), Refusal> {
    match name {
        Some(name)
            if !name.eq_ignore_ascii_case(request.param(param))
                && !name.ends_with(&format!("/{}", request.param(param))) =>
        {
            Err(Refusal::content(format!(
                "The name '{name}' in the request content does not match the name '{}' in the request path.",
                request.param(param)
            )))
        }
        _ => Ok(()),
    }
}

/// `If-Match`, or the `etag` that a round-tripped body carries, and `If-None-Match`.
pub(super) fn preconditions(request: &Request, etag: Option<&str>) -> Preconditions {
    let if_match = match request.if_match() {
        IfMatch::Absent => IfMatch::parse(etag),
        given => given,
    };
    // One that is sent twice or is no text is no `*`; it must not count as absent.
    let values = request.headers.get_all(http::header::IF_NONE_MATCH).iter();
    let values: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    let if_none_match = IfNoneMatch::parse((!values.is_empty()).then(|| values.join(", ")).as_deref());
    Preconditions { if_match, if_none_match }
}

/// `$skipToken` or `$skiptoken`, as `nextLink` gave it out.
pub(super) fn skip_token(request: &Request) -> Option<Continuation> {
    request.query("$skiptoken").filter(|text| !text.is_empty()).map(Continuation::from_client)
}

/// A body that sends tags and nothing else that counts.
#[expect(clippy::option_option, reason = "null and not there are two things in a merge patch")]
#[derive(Debug, Deserialize)]
pub(super) struct TagsBody {
    #[serde(default, deserialize_with = "crate::json::present")]
    pub(super) tags: Option<Option<Tags>>,
}

/// The body of a name check.
#[derive(Debug, Deserialize)]
pub(super) struct NameBody {
    pub(super) name: Option<String>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
}

impl NameBody {
    pub(super) fn name(&self) -> Result<&str, Refusal> {
        self.name.as_deref().ok_or_else(|| Refusal::content("The property 'name' is required."))
    }
}

/// The typed members of a `properties` object whose other members are kept as they are.
pub(super) fn typed<T: DeserializeOwned>(properties: &serde_json::Map<String, Value>) -> Result<T, Refusal> {
    let within = |why: Unreadable| unreadable(why.within("properties"));
    json::read_value(Value::Object(properties.clone()), Reading::AsPublished).map_err(within)
}
