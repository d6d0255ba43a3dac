//! What can go wrong in a hub, in Azure's words: one name, one six-digit code, one text for each.
//! Operations return it; every door maps it once. It must never carry a storage detail to a caller.

use std::time::Duration;

use access::Denied;
use base::{Meter, Refused};
use store::{CommitError, MayConflict, StoreError};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The body holds what the operation does not know. The service says no more.
    #[error("BadRequest")]
    BadRequest,
    #[error("{0}")]
    ArgumentInvalid(String),
    #[error("The argument '{0}' is required.")]
    ArgumentNull(&'static str),
    #[error("{0}")]
    BlobContainerValidationError(String),
    /// A line of a file that is imported.
    #[error("{0}")]
    DeserializationError(String),
    #[error("{0}")]
    InvalidStorageEndpoint(String),
    #[error("{0}")]
    InvalidStorageEndpointOrBlob(String),
    #[error("{0}")]
    InvalidEndpointAuthenticationType(&'static str),
    #[error("{0} is in the list more than once.")]
    DeviceDefinedMultipleTimes(String),
    #[error("The list holds {0} identities, and may hold {max}.", max = base::caps::BULK_IDENTITIES_MAX)]
    TooManyDevices(usize),
    #[error("{0}")]
    InvalidDeviceScope(String),
    #[error("{0}")]
    InvalidConfigurationTargetCondition(String),
    #[error("{0}")]
    InvalidConfigurationContent(String),
    #[error("{0}")]
    InvalidConfigurationCustomMetricsQuery(String),
    /// The text is no list of operations at all.
    #[error("{0}")]
    InvalidDigitalTwinJsonPatch(String),
    #[error("{0}")]
    InvalidDigitalTwinPayload(&'static str),
    #[error("{0}")]
    InvalidDigitalTwinPatch(String),
    #[error("{0}")]
    InvalidDigitalTwinPatchPath(String),
    #[error("The hub has no storage account for the files of its devices.")]
    DefaultStorageEndpointNotConfigured,
    #[error("No file upload of the device that is under way has the correlation id.")]
    InvalidFileUploadCorrelationId,
    #[error("The time of the file upload is over.")]
    ExpiredFileUploadCorrelationId,
    #[error("{0}")]
    InvalidFileUploadCompletionStatus(&'static str),
    #[error("The connection was closed because the device connected again.")]
    ConnectionForcefullyClosedOnNewConnection,
    #[error("Hub not found.")]
    IotHubNotFound,
    #[error("Unauthorized")]
    IotHubUnauthorizedAccess,
    /// `$edgeAgent` and `$edgeHub` come and go with the capability of their device.
    #[error("Module {0} belongs to the system and cannot be deleted.")]
    SystemModuleModifyUnauthorizedAccess(String),
    /// The caller is known but may not do this. The door knows method and path, with which the refusal is worded.
    #[error("Unauthorized")]
    PrincipalUnauthorized(Denied),
    #[error("The hub holds as many identities as it may.")]
    IotHubQuotaExceeded,
    #[error("{0}")]
    JobQuotaExceeded(String),
    #[error("The device's queue already holds {0} messages, as many as it may.")]
    DeviceMaximumQueueDepthExceeded(u32),
    #[error("Number of active file upload requests cannot exceed {max}", max = base::caps::FILE_UPLOADS_ACTIVE_MAX)]
    DeviceMaximumActiveFileUploadLimitExceeded,
    #[error("The message must expire after now, and within two days.")]
    InvalidMessageExpiryTime,
    #[error("Device {0} is disabled.")]
    DeviceDisabled(String),
    #[error("Too many direct methods of device {0} are waiting for an answer.")]
    DeviceMaximumInflightMethodExceeded(String),
    #[error("Device {0} not registered.")]
    DeviceNotFound(String),
    #[error("Job {0} not found.")]
    JobNotFound(String),
    #[error("Configuration {0} not found.")]
    ConfigurationNotFound(String),
    #[error("The job is {0}; only one that has not begun can be cancelled.")]
    OperationNotAllowedInCurrentState(&'static str),
    #[error("Module {module_id} on device {device_id} not registered.")]
    ModuleNotFound { device_id: String, module_id: String },
    #[error(
        "The operation failed because the requested device isn't online. To learn more, see https://aka.ms/iothub404103"
    )]
    DeviceNotOnline,
    #[error("The device closed its connection before it answered.")]
    DeviceConnectionClosedRemotely,
    #[error("A device with ID '{0}' is already registered.")]
    DeviceAlreadyExists(String),
    #[error("A configuration with ID '{0}' already exists.")]
    ConfigurationAlreadyExists(String),
    #[error("A job with ID '{0}' already exists.")]
    JobAlreadyExists(String),
    #[error("Device {device_id} in IotHub {hub} already contains Module {module_id}.")]
    ModuleAlreadyExistsOnDevice { hub: String, device_id: String, module_id: String },
    #[error("{0}")]
    PreconditionFailed(&'static str),
    /// It was settled already, or its time is over.
    #[error("The lock token is not, or no longer, one that holds a message.")]
    DeviceMessageLockLost,
    #[error("{0}")]
    MessageTooLarge(String),
    #[error("The hub holds {0} configurations, as many as it may.")]
    ConfigurationCountLimitExceeded(i64),
    #[error("Device {0} holds as many modules as it may.")]
    TooManyModulesOnDevice(String),
    #[error(
        "The request has been throttled. Wait {} seconds and try again. Operation type: {meter:?}",
        retry_after.as_secs().max(1)
    )]
    ThrottlingException { retry_after: Duration, meter: Meter },
    #[error("{0} jobs are scheduled or running, as many as may be at the same time.")]
    ThrottlingMaxActiveJobCountExceeded(i64),
    /// What the device sent back is no answer.
    #[error("{0}")]
    BadGateway(&'static str),
    #[error("Timed out waiting for the response from device.")]
    GatewayTimeout,
    /// Others kept changing the same entity; or the disk has no room for one more request.
    #[error("The server is busy. Try again.")]
    ServerBusy,
    #[error("An internal error occurred.")]
    ServerError,
    /// A record changed between read and write. Retried by the operation; never leaves the crate.
    #[error("The entity changed meanwhile.")]
    Conflict,
}

/// The text of a stale or missing etag.
pub(crate) const ETAG_STALE: &str = "PreconditionFailed, ETag may be invalid.";
pub(crate) const ETAG_MISSING: &str = "Etag missing";

impl Error {
    /// Azure's six digits (`iothub-service.md` §2.3). What a door makes of the first three is its own affair.
    pub fn code(&self) -> u32 {
        match self {
            Self::BadRequest => 400_000,
            Self::ArgumentInvalid(_) => 400_004,
            Self::ArgumentNull(_) => 400_005,
            Self::BlobContainerValidationError(_) => 400_008,
            Self::DeviceDefinedMultipleTimes(_) => 400_011,
            Self::DeserializationError(_) => 400_012,
            Self::DefaultStorageEndpointNotConfigured => 400_014,
            Self::InvalidFileUploadCorrelationId => 400_015,
            Self::ExpiredFileUploadCorrelationId => 400_016,
            Self::InvalidStorageEndpoint(_) => 400_017,
            Self::InvalidFileUploadCompletionStatus(_) => 400_019,
            Self::InvalidStorageEndpointOrBlob(_) => 400_020,
            Self::ConnectionForcefullyClosedOnNewConnection => 400_027,
            Self::InvalidDeviceScope(_) => 400_028,
            Self::InvalidEndpointAuthenticationType(_) => 400_031,
            Self::InvalidConfigurationTargetCondition(_) => 400_401,
            Self::InvalidConfigurationContent(_) => 400_402,
            Self::InvalidConfigurationCustomMetricsQuery(_) => 400_404,
            Self::InvalidDigitalTwinJsonPatch(_) => 400_505,
            Self::InvalidDigitalTwinPayload(_) => 400_506,
            Self::InvalidDigitalTwinPatch(_) => 400_507,
            Self::InvalidDigitalTwinPatchPath(_) => 400_508,
            Self::IotHubNotFound => 401_001,
            Self::IotHubUnauthorizedAccess | Self::PrincipalUnauthorized(_) => 401_002,
            Self::SystemModuleModifyUnauthorizedAccess(_) => 401_100,
            Self::IotHubQuotaExceeded => 403_002,
            Self::JobQuotaExceeded(_) => 403_003,
            Self::DeviceMaximumQueueDepthExceeded(_) => 403_004,
            Self::DeviceMaximumActiveFileUploadLimitExceeded => 403_006,
            Self::InvalidMessageExpiryTime => 403_009,
            Self::DeviceDisabled(_) => 403_012,
            Self::DeviceMaximumInflightMethodExceeded(_) => 403_800,
            Self::DeviceNotFound(_) => 404_001,
            Self::JobNotFound(_) => 404_002,
            Self::ModuleNotFound { .. } => 404_010,
            Self::DeviceNotOnline => 404_103,
            Self::DeviceConnectionClosedRemotely => 404_104,
            Self::ConfigurationNotFound(_) => 404_301,
            Self::OperationNotAllowedInCurrentState(_) => 405_102,
            Self::DeviceAlreadyExists(_) => 409_001,
            Self::JobAlreadyExists(_) => 409_104,
            Self::ModuleAlreadyExistsOnDevice { .. } => 409_301,
            Self::ConfigurationAlreadyExists(_) => 409_401,
            Self::PreconditionFailed(_) => 412_001,
            Self::DeviceMessageLockLost => 412_002,
            Self::MessageTooLarge(_) => 413_001,
            Self::TooManyDevices(_) => 413_002,
            Self::TooManyModulesOnDevice(_) => 413_003,
            Self::ConfigurationCountLimitExceeded(_) => 413_101,
            Self::ThrottlingException { .. } => 429_001,
            Self::ThrottlingMaxActiveJobCountExceeded(_) => 429_004,
            Self::ServerError => 500_001,
            Self::BadGateway(_) => 502_000,
            Self::ServerBusy | Self::Conflict => 503_005,
            Self::GatewayTimeout => 504_101,
        }
    }

    /// The value of the `iothub-errorcode` header.
    pub fn name(&self) -> &'static str {
        match self {
            Self::BadRequest => "GenericBadRequest",
            Self::ArgumentInvalid(_) => "ArgumentInvalid",
            Self::ArgumentNull(_) => "ArgumentNull",
            Self::ConnectionForcefullyClosedOnNewConnection => "ConnectionForcefullyClosedOnNewConnection",
            Self::BlobContainerValidationError(_) => "BlobContainerValidationError",
            Self::DeserializationError(_) => "DeserializationError",
            Self::InvalidStorageEndpoint(_) => "InvalidStorageEndpoint",
            Self::InvalidStorageEndpointOrBlob(_) => "InvalidStorageEndpointOrBlob",
            Self::InvalidEndpointAuthenticationType(_) => "InvalidEndpointAuthenticationType",
            Self::DeviceDefinedMultipleTimes(_) => "DeviceDefinedMultipleTimes",
            Self::DefaultStorageEndpointNotConfigured => "DefaultStorageEndpointNotConfigured",
            Self::InvalidFileUploadCorrelationId => "InvalidFileUploadCorrelationId",
            Self::ExpiredFileUploadCorrelationId => "ExpiredFileUploadCorrelationId",
            Self::InvalidFileUploadCompletionStatus(_) => "InvalidFileUploadCompletionStatus",
            Self::TooManyDevices(_) => "TooManyDevices",
            Self::SystemModuleModifyUnauthorizedAccess(_) => "SystemModuleModifyUnauthorizedAccess",
            Self::InvalidDeviceScope(_) => "InvalidDeviceScope",
            Self::InvalidConfigurationTargetCondition(_) => "InvalidConfigurationTargetCondition",
            Self::InvalidConfigurationContent(_) => "InvalidConfigurationContent",
            Self::InvalidConfigurationCustomMetricsQuery(_) => "InvalidConfigurationCustomMetricsQuery",
            Self::ConfigurationNotFound(_) => "ConfigurationNotFound",
            Self::ConfigurationAlreadyExists(_) => "ConfigurationAlreadyExists",
            Self::ConfigurationCountLimitExceeded(_) => "ConfigurationCountLimitExceeded",
            Self::InvalidDigitalTwinJsonPatch(_) => "InvalidDigitalTwinJsonPatch",
            Self::InvalidDigitalTwinPayload(_) => "InvalidDigitalTwinPayload",
            Self::InvalidDigitalTwinPatch(_) => "InvalidDigitalTwinPatch",
            Self::InvalidDigitalTwinPatchPath(_) => "InvalidDigitalTwinPatchPath",
            Self::IotHubNotFound => "IotHubNotFound",
            Self::IotHubUnauthorizedAccess | Self::PrincipalUnauthorized(_) => "IotHubUnauthorizedAccess",
            Self::IotHubQuotaExceeded => "IotHubQuotaExceeded",
            Self::DeviceMaximumQueueDepthExceeded(_) => "DeviceMaximumQueueDepthExceeded",
            Self::DeviceMaximumActiveFileUploadLimitExceeded => "DeviceMaximumActiveFileUploadLimitExceeded",
            Self::InvalidMessageExpiryTime => "InvalidMessageExpiryTime",
            Self::DeviceDisabled(_) => "DeviceDisabled",
            Self::DeviceMaximumInflightMethodExceeded(_) => "DeviceMaximumInflightMethodExceeded",
            Self::DeviceNotFound(_) => "DeviceNotFound",
            Self::ModuleNotFound { .. } => "ModuleNotFound",
            Self::DeviceNotOnline => "DeviceNotOnline",
            Self::DeviceConnectionClosedRemotely => "DeviceConnectionClosedRemotely",
            Self::DeviceAlreadyExists(_) => "DeviceAlreadyExists",
            Self::ModuleAlreadyExistsOnDevice { .. } => "ModuleAlreadyExistsOnDevice",
            Self::PreconditionFailed(_) => "PreconditionFailed",
            Self::DeviceMessageLockLost => "DeviceMessageLockLost",
            Self::MessageTooLarge(_) => "MessageTooLarge",
            Self::TooManyModulesOnDevice(_) => "TooManyModulesOnDevice",
            Self::ThrottlingException { .. } => "ThrottlingException",
            Self::JobQuotaExceeded(_) => "JobQuotaExceeded",
            Self::JobNotFound(_) => "JobNotFound",
            Self::JobAlreadyExists(_) => "JobAlreadyExists",
            Self::OperationNotAllowedInCurrentState(_) => "OperationNotAllowedInCurrentState",
            Self::ThrottlingMaxActiveJobCountExceeded(_) => "ThrottlingMaxActiveJobCountExceeded",
            Self::ServerError => "ServerError",
            Self::BadGateway(_) => "GenericBadGateway",
            Self::ServerBusy | Self::Conflict => "ServerBusy",
            Self::GatewayTimeout => "GatewayTimeout",
        }
    }

    pub(crate) fn too_many_jobs_kept() -> Self {
        let max = base::caps::JOBS_KEPT_MAX;
        Self::JobQuotaExceeded(format!(
            "The hub keeps {max} jobs, as many as it may; each is forgotten 30 days after its end."
        ))
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::ArgumentInvalid(text.into())
    }
}

impl MayConflict for Error {
    fn is_conflict(&self) -> bool {
        *self == Self::Conflict
    }
}

impl From<Error> for Refused<Error> {
    fn from(error: Error) -> Self {
        let why = error.name();
        Self::new(error, why)
    }
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Self {
        Self::PrincipalUnauthorized(denied)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        // The hub is being removed under a request that had begun.
        if let StoreError::NoStream(_) = error {
            return Self::IotHubNotFound;
        }
        tracing::error!(%error, "the store failed");
        match error {
            // Whoever asks again learns what became of it.
            StoreError::Busy | StoreError::Unknown(_) | StoreError::Unavailable(_) => Self::ServerBusy,
            _ => Self::ServerError,
        }
    }
}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict => Self::Conflict,
            CommitError::CounterLimit { .. } => Self::IotHubQuotaExceeded,
            CommitError::Store(error) => error.into(),
        }
    }
}
