//! What can go wrong, in Resource Manager's words: the text of each is the message that a caller reads.
//! Made by the operations here; the door adds status and code in one match.

use access::Denied;
use access::directory::RoleError;
use store::{CommitError, MayConflict, StoreError};

use crate::id::{GroupId, ResourceId};
use crate::location;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("The provided subscription identifier '{0}' is malformed or invalid.")]
    InvalidSubscriptionId(String),
    #[error("The subscription '{0}' could not be found.")]
    SubscriptionNotFound(String),
    #[error("Resource group '{0}' could not be found.")]
    ResourceGroupNotFound(String),
    #[error("The resource group '{0}' is in deprovisioning state and cannot perform this operation.")]
    ResourceGroupBeingDeleted(String),
    #[error(
        "The provided resource group name '{0}' has these invalid characters or an invalid length: a name has 1 to 90 letters, digits, '-', '_', '.', '(' and ')' and does not end with a period."
    )]
    InvalidResourceGroupName(String),
    #[error(
        "Invalid resource group location '{wanted}'. The Resource group already exists in location '{existing}'."
    )]
    InvalidResourceGroupLocation { wanted: String, existing: String },
    #[error(
        "The Resource '{0}' under resource group '{1}' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix"
    )]
    ResourceNotFound(String, String),
    #[error(
        "Failed to perform '{verb}' on resource(s) of type '{kind}', because the parent resource '{parent}' could not be found."
    )]
    ParentResourceNotFound { verb: &'static str, kind: String, parent: String },
    #[error("The resource namespace '{0}' is invalid.")]
    InvalidResourceNamespace(String),
    #[error("The location property is required for this definition.")]
    LocationRequired,
    #[error(
        "The provided location '{wanted}' is not available for resource type '{kind}'. List of available regions for the resource type is '{}'.",
        location::list()
    )]
    LocationNotAvailable { wanted: String, kind: String },
    #[error(
        "The resource '{name}' already exists in location '{existing}' in resource group '{group}'. A resource with the same name cannot be created in location '{wanted}'. Please select a new resource name."
    )]
    InvalidResourceLocation { name: String, existing: String, group: String, wanted: String },
    #[error(
        "The subscription is not registered to use namespace '{0}'. See https://aka.ms/rps-not-found for how to register subscriptions."
    )]
    MissingSubscriptionRegistration(String),
    #[error("{0}")]
    InvalidRequestContent(String),
    /// A name that its type does not allow.
    #[error("{0}")]
    InvalidResourceName(String),
    #[error("{0}")]
    InvalidTags(String),
    #[error("Invalid $filter '{0}' specified in the query string.")]
    InvalidFilter(String),
    #[error("The skiptoken is not one that this service gave out.")]
    InvalidSkipToken,
    /// The type's own rules refuse the values sent.
    #[error("{0}")]
    BadRequest(String),
    /// Another resource has the name, which is unique beyond its group.
    #[error("Name '{0}' is already taken. Please specify a different name")]
    NameTaken(String),
    /// The resource is in a state in which this may not be done.
    #[error("{0}")]
    Conflict(String),
    /// An endpoint cannot be deleted while event routes lead to it.
    #[error("Nested endpoint routes found. Please remove following endpoint routes first: {}", .0.join(", "))]
    NestedEndpointRoutes(Vec<String>),
    #[error("{0}")]
    QuotaExceeded(String),
    #[error("The condition '{0}' was not satisfied by the resource's present version.")]
    PreconditionFailed(&'static str),
    /// A policy or authorization rule that is not there.
    #[error("{0}")]
    KeyNotFound(String),
    #[error("The operation '{0}' could not be found.")]
    OperationNotFound(String),
    #[error("The scope '{0}' is not valid.")]
    InvalidScope(String),
    #[error("The specified role definition with ID '{0}' does not exist.")]
    RoleDefinitionNotFound(String),
    /// What `Microsoft.Authorization` says of a role assignment, beside what all providers say.
    #[error(transparent)]
    Role(RoleError),
    /// What a hub says that was asked in the name of a caller.
    #[error(transparent)]
    Hub(#[from] hub::Error),
    /// Someone else wrote first; the operation is decided again.
    #[error("The resource was changed by another request. Please retry.")]
    WrittenMeanwhile,
    #[error("The service is unavailable. Please retry.")]
    Store(#[from] StoreError),
}

impl Error {
    pub(crate) fn not_found(id: &ResourceId) -> Self {
        Self::ResourceNotFound(id.relative(), id.group.name.clone())
    }

    /// What stands behind a resource is still being made.
    pub(crate) fn not_ready(id: &ResourceId) -> Self {
        Self::Conflict(format!("'{}' is not ready yet.", id.name))
    }

    pub(crate) fn group_not_found(group: &GroupId) -> Self {
        Self::ResourceGroupNotFound(group.name.clone())
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::BadRequest(message.into())
    }
}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict => Self::WrittenMeanwhile,
            CommitError::CounterLimit { counter, max } => {
                Self::QuotaExceeded(format!("The quota of {max} for {counter} is used up."))
            }
            CommitError::Store(error) => Self::Store(error),
        }
    }
}

impl From<event_hubs::Error> for Error {
    fn from(error: event_hubs::Error) -> Self {
        use event_hubs::Error as Of;
        match error {
            Of::EventHubNotFound(_) => Self::Conflict(error.to_string()),
            Of::UnknownRights | Of::ManageAlone => Self::BadRequest(error.to_string()),
            Of::TooManyRules(_) => Self::QuotaExceeded(error.to_string()),
            Of::WrittenMeanwhile => Self::WrittenMeanwhile,
            Of::Store(error) => Self::Store(error),
        }
    }
}

impl From<RoleError> for Error {
    fn from(error: RoleError) -> Self {
        match error {
            RoleError::Denied(denied) => Self::Denied(denied),
            RoleError::WrittenMeanwhile => Self::WrittenMeanwhile,
            RoleError::Store(error) => Self::Store(error),
            other => Self::Role(other),
        }
    }
}

impl MayConflict for Error {
    fn is_conflict(&self) -> bool {
        *self == Self::WrittenMeanwhile
    }
}
