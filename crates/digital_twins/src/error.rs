//! Everything that an operation can refuse, in the service's own words. Doors map each to a status; the texts are what
//! recorded traffic shows, where it shows them (digital-twins.md §1.8). It must never carry what only the log may see.

use access::Denied;
use base::caps;
use base::meter::Throttled;
use store::{CommitError, MayConflict, StoreError};

use crate::json_patch::PatchError;

const MODEL_LIST: &str = "Use Model_List API to view models that already exist. See the Swagger example. (http://aka.ms/ModelListSwSmpl):";

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    // What cannot be read.
    #[error("Payload is invalid.")]
    PayloadInvalid,
    #[error(
        "Invalid twin ID specified. Twin ID must be less than {} characters, and only include the following characters: A-Z a-z 0-9 - . +% _ # * ? ! ( ) , = @ $ '",
        caps::DIGITAL_TWIN_ID_CHARACTERS_MAX + 1
    )]
    DigitalTwinIdInvalid,
    #[error(
        "Invalid relationship ID specified. Relationship ID must be less than {} characters, and only include the following characters: A-Z a-z 0-9 - . +% _ # * ? ! ( ) , = @ $ '",
        caps::DIGITAL_TWIN_ID_CHARACTERS_MAX + 1
    )]
    RelationshipIdInvalid,
    #[error("The model id '{0}' is invalid. Check that the Model ID provided is a valid DTMI.")]
    ModelIdInvalid(String),
    #[error("Invalid If-Match header value. Allowed value(s): If-Match: {{etag}} or If-Match: *")]
    IfMatchInvalid,
    #[error("Invalid If-None-Match header value. Allowed value(s): If-None-Match: *")]
    IfNoneMatchInvalid,
    #[error("The request does not have a valid Message-Id header.")]
    MessageIdInvalid,
    #[error("The value of '{0}' is invalid.")]
    ArgumentInvalid(&'static str),

    // Models.
    #[error(
        "Operation failed as models provided was empty or of a type that is not supported.. Check that your Model Array contains at least one item and it is of a supported type. See link(http://aka.ms/ADTv2Models) for details."
    )]
    ModelsInvalid,
    #[error(
        "None of the models in this request could be created due to a problem with one or more models: {0}. See model documentation(https://aka.ms/ADTv2Models) for supported format."
    )]
    DtdlParserError(String),
    #[error(
        "The version of DTDL used by model {0} is not supported. See model documentation(https://aka.ms/ADTv2Models) for supported versions."
    )]
    ModelVersionNotSupported(String),
    #[error("{0}")]
    LimitExceeded(String),
    #[error(
        "There is no Model(s) available that matches the provided id(s) {0}. Check that the Model ID provided is valid by doing a Model_List API call."
    )]
    ModelNotFound(String),
    #[error("Model with same ID already exists {0}. {MODEL_LIST}")]
    ModelAlreadyExists(String),
    #[error(
        "The model {0} is decommissioned. New digital twins cannot be created from a decommissioned model."
    )]
    ModelDecommissioned(String),
    #[error(
        "This model is currently being referenced by {0}. You must delete these references before deleting the Model.. To delete references, do Delete Model on Ids provided above."
    )]
    ModelReferencesNotDeleted(String),
    #[error(
        "This model is currently being referenced by {0}. You must decommission these references before decommissioning the Model."
    )]
    ModelReferencesNotDecommissioned(String),

    // Digital twins.
    #[error("The maximum number of digital twins allowed has been reached.")]
    TwinLimitReached,
    #[error("{message}")]
    ValidationFailed { message: &'static str, details: Vec<String> },
    #[error(
        "{0} Please provide a valid patch document. See section on update apis in the documentation https://aka.ms/adtv2twins."
    )]
    JsonPatchInvalid(PatchError),
    #[error(
        "There is no digital twin instance that exists with the ID {0}. Please verify that the twin id is valid and ensure that the twin is not deleted. See section on querying the twins https://aka.ms/adtv2query."
    )]
    DigitalTwinNotFound(String),
    #[error(
        "{twin} does not have component {component} Please verify that the component path is correct. You can get components by getting the twin, See example https://aka.ms/TwinGetSwSmpl."
    )]
    ComponentNotFound { twin: String, component: String },
    #[error(
        "Twin {0} has active relationships. Cannot delete a twin unless all the relationships are deleted. Please ensure that the active relationships on the twin are deleted. See section on retrieving relationships https://aka.ms/adtv2twins."
    )]
    RelationshipsNotDeleted(String),
    #[error(
        "The provided etag {0} doesn't match the current etag for the resource. Please obtain and provide the latest etag by getting the resource. See section on get apis in the documentation https://aka.ms/adtv2twins."
    )]
    EtagMismatch(String),
    #[error(
        "If-None-Match: * header was specified but a twin with the id {0} was found. Please specify a different twin id."
    )]
    DigitalTwinExists(String),

    // Relationships.
    #[error(
        "Twin relationship does not align with the model. Please ensure that the relationship is in alignment with the model. See section on listing models http://aka.ms/adtv2models."
    )]
    RelationshipNotInModel,
    #[error("{0}")]
    InvalidRelationship(String),
    #[error("The relationship cannot connect a digital twin to itself. Please specify a different target.")]
    OperationNotAllowed,
    #[error(
        "The target digital twin is invalid or does not exist Please validate that the target twin is valid and ensure that the target twin is not deleted. See section on querying the twins https://aka.ms/adtv2query ."
    )]
    TargetDigitalTwinNotFound,
    #[error(
        "Relationship {relationship} not found on twin {twin}. Please verify that the relationship id is valid and ensure that the relationship is not deleted. See section on listing relationships in the documentation https://aka.ms/adtv2twins."
    )]
    RelationshipNotFound { twin: String, relationship: String },
    #[error(
        "If-None-Match: * header was specified but a relationship with the id {0} was found. Please specify a different relationship id."
    )]
    RelationshipExists(String),

    // Queries.
    #[error("SQL query parse failed: {0} See samples in https://aka.ms/adtv2query for the correct syntax.")]
    SqlQueryError(String),
    #[error("The continuation token is invalid.")]
    ContinuationInvalid,
    #[error(
        "The query did not end within 60 seconds. Try simplifying the query or adding conditions to reduce the result size."
    )]
    QueryTimeout,
    #[error("The maximum query rate limit has been reached.")]
    QuotaReached(Throttled),

    // Event routes.
    #[error("The event route id is invalid. It may hold letters, digits, - and _ only.")]
    EventRouteIdInvalid,
    #[error(
        "The endpoint provided does not exist or is not active. Check that your endpoint is provisioned correctly. See event route documentation (https://aka.ms/ADTv2Routes)."
    )]
    EventRouteEndpointInvalid,
    #[error(
        "The event route filter is invalid: {0} See event route documentation (https://aka.ms/ADTv2Routes)."
    )]
    EventRouteFilterInvalid(String),
    #[error(
        "There is no route available that matches the provided input. Check for all valid event routes by calling EventRoute_List. See Swagger example (https://aka.ms/RouteSwSmpl)."
    )]
    EventRouteNotFound,

    // Any operation.
    #[error("{0}")]
    Denied(#[from] Denied),
    #[error(
        "Maximum request rate limit reached. For Azure Digital Twins rate limiting details please see http://aka.ms/dtv2limits."
    )]
    Throttled(#[from] Throttled),
    /// Someone else kept writing the same records; the caller may try again.
    #[error("The resource is being changed by other requests. Please try again.")]
    Conflict,
    /// The store has no room for the request now; the caller may try again.
    #[error("The service is busy. Please try again.")]
    Busy,
    /// Said to the log, never to a caller.
    #[error("An internal error occurred.")]
    Store(StoreError),
}

impl Error {
    /// Azure's code, as the error envelope and `x-ms-error-code` carry it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::PayloadInvalid
            | Self::ModelsInvalid
            | Self::DigitalTwinIdInvalid
            | Self::RelationshipIdInvalid
            | Self::ModelIdInvalid(_)
            | Self::IfMatchInvalid
            | Self::IfNoneMatchInvalid
            | Self::MessageIdInvalid
            | Self::ArgumentInvalid(_) => "InvalidArgument",
            Self::DtdlParserError(_) => "DTDLParserError",
            Self::ModelVersionNotSupported(_) => "ModelVersionNotSupported",
            Self::LimitExceeded(_) => "LimitExceeded",
            Self::ModelNotFound(_) => "ModelNotFound",
            Self::ModelAlreadyExists(_) => "ModelAlreadyExists",
            Self::ModelDecommissioned(_) => "ModelDecommissioned",
            Self::ModelReferencesNotDeleted(_) => "ModelReferencesNotDeleted",
            Self::ModelReferencesNotDecommissioned(_) => "ModelReferencesNotDecommissioned",
            Self::TwinLimitReached => "TwinLimitReached",
            Self::ValidationFailed { .. } => "ValidationFailed",
            Self::JsonPatchInvalid(_) => "JsonPatchInvalid",
            Self::DigitalTwinNotFound(_) => "DigitalTwinNotFound",
            Self::ComponentNotFound { .. } => "ComponentNotFound",
            Self::RelationshipsNotDeleted(_) => "RelationshipsNotDeleted",
            Self::EtagMismatch(_) | Self::DigitalTwinExists(_) | Self::RelationshipExists(_) => {
                "PreconditionFailed"
            }
            Self::RelationshipNotInModel | Self::InvalidRelationship(_) => "InvalidRelationship",
            Self::OperationNotAllowed => "OperationNotAllowed",
            Self::TargetDigitalTwinNotFound => "TargetDigitalTwinNotFound",
            Self::RelationshipNotFound { .. } => "RelationshipNotFound",
            Self::SqlQueryError(_) => "SqlQueryError",
            Self::ContinuationInvalid => "BadRequest",
            Self::QueryTimeout => "TimeoutError",
            Self::QuotaReached(_) => "QuotaReachedError",
            Self::EventRouteIdInvalid => "EventRouteIdInvalid",
            Self::EventRouteEndpointInvalid => "EventRouteEndpointInvalid",
            Self::EventRouteFilterInvalid(_) => "EventRouteFilterInvalid",
            Self::EventRouteNotFound => "EventRouteNotFound",
            Self::Denied(_) => "AuthorizationFailed",
            Self::Throttled(_) => "TooManyRequests",
            Self::Conflict | Self::Busy => "ServiceUnavailable",
            Self::Store(_) => "InternalServerError",
        }
    }

    /// The `details` of the envelope, each with the code of the error itself.
    pub fn details(&self) -> &[String] {
        match self {
            Self::ValidationFailed { details, .. } => details,
            _ => &[],
        }
    }

    pub(crate) fn twin_invalid(details: Vec<String>) -> Self {
        Self::ValidationFailed { message: "Invalid twin specified", details }
    }

    pub(crate) fn relationship_invalid(details: Vec<String>) -> Self {
        Self::ValidationFailed { message: "Invalid relationship specified", details }
    }
}

impl From<PatchError> for Error {
    fn from(error: PatchError) -> Self {
        Self::JsonPatchInvalid(error)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            // Whoever asks again learns what became of it.
            StoreError::Busy | StoreError::Unknown(_) | StoreError::Unavailable(_) => Self::Busy,
            other => Self::Store(other),
        }
    }
}

/// Counters are judged by name where they are added to; what is left here is a conflict or a failure.
impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict => Self::Conflict,
            CommitError::CounterLimit { counter, max } => {
                Self::LimitExceeded(format!("The limit of {max} on {counter} has been reached."))
            }
            CommitError::Store(error) => error.into(),
        }
    }
}

impl MayConflict for Error {
    fn is_conflict(&self) -> bool {
        *self == Self::Conflict
    }
}
