//! What can go wrong with containers and blobs, in the service's own words (`messaging.md` §4.2).

use store::{CommitError, MayConflict, StoreError};

use crate::block_list::InvalidBlockList;
use crate::name::InvalidName;
use crate::range::RangeError;
use crate::sas::Refusal;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("The specified container does not exist.")]
    ContainerNotFound,
    #[error("The specified container already exists.")]
    ContainerAlreadyExists,
    #[error("The specified blob does not exist.")]
    BlobNotFound,
    #[error("The specified blob already exists.")]
    BlobAlreadyExists,
    #[error("The blob type is invalid for this operation.")]
    InvalidBlobType,
    #[error("The condition specified using HTTP conditional header(s) is not met.")]
    ConditionNotMet,
    /// A read whose reader has it already.
    #[error("The condition specified using HTTP conditional header(s) is not met.")]
    NotModified,
    #[error("The append position condition specified was not met.")]
    AppendPositionConditionNotMet,
    #[error("The max blob size condition specified was not met.")]
    MaxBlobSizeConditionNotMet,
    #[error("The specified block list is invalid.")]
    InvalidBlockList,
    #[error(transparent)]
    BlockList(#[from] InvalidBlockList),
    #[error("The committed block count cannot exceed the maximum limit of 50,000 blocks.")]
    BlockCountExceedsLimit,
    #[error("The specified blob or block content is invalid.")]
    InvalidBlobOrBlock,
    #[error("The uncommitted block count cannot exceed the maximum limit of 100,000 blocks.")]
    RequestEntityTooManyBlocks,
    #[error("The request body is too large and exceeds the maximum permissible limit.")]
    RequestBodyTooLarge,
    #[error(
        "The MD5 value specified in the request did not match with the MD5 value calculated by the server."
    )]
    Md5Mismatch,
    #[error("The metadata specified is invalid. It has characters that are not permitted.")]
    InvalidMetadata,
    #[error("The size of the specified metadata exceeds the maximum size permitted.")]
    MetadataTooLarge,
    #[error("The value for one of the XML nodes is not in the correct format.")]
    InvalidXmlNodeValue,
    #[error("Value for one of the query parameters specified in the request URI is invalid.")]
    InvalidMarker,
    #[error("Public access is not permitted on this storage account.")]
    PublicAccessNotPermitted,
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error(transparent)]
    Range(#[from] RangeError),
    #[error(
        "Server failed to authenticate the request. Make sure the value of the Authorization header is formed correctly including the signature."
    )]
    AuthenticationFailed(&'static str),
    /// The token's own words are for the log and, where it is not even authentic, for the answer's detail.
    #[error("This request is not authorized to perform this operation.")]
    Refused(Refusal),
    /// Another request wrote first; the operation is decided again.
    #[error("The operation could not be completed within the permitted time.")]
    WrittenMeanwhile,
    #[error("The server is currently unable to receive requests. Please retry your request.")]
    Store(#[from] StoreError),
}

impl Error {
    /// Azure's code, as headers and bodies carry it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ContainerNotFound => "ContainerNotFound",
            Self::ContainerAlreadyExists => "ContainerAlreadyExists",
            Self::BlobNotFound => "BlobNotFound",
            Self::BlobAlreadyExists => "BlobAlreadyExists",
            Self::InvalidBlobType => "InvalidBlobType",
            Self::ConditionNotMet | Self::NotModified => "ConditionNotMet",
            Self::AppendPositionConditionNotMet => "AppendPositionConditionNotMet",
            Self::MaxBlobSizeConditionNotMet => "MaxBlobSizeConditionNotMet",
            Self::InvalidBlockList => "InvalidBlockList",
            Self::BlockList(InvalidBlockList::Malformed) => "InvalidXmlDocument",
            Self::BlockList(InvalidBlockList::BlockId) => "InvalidBlockId",
            Self::BlockList(InvalidBlockList::TooLong) => "BlockListTooLong",
            Self::BlockCountExceedsLimit | Self::RequestEntityTooManyBlocks => "BlockCountExceedsLimit",
            Self::InvalidBlobOrBlock => "InvalidBlobOrBlock",
            Self::RequestBodyTooLarge => "RequestBodyTooLarge",
            Self::Md5Mismatch => "Md5Mismatch",
            Self::InvalidMetadata => "InvalidMetadata",
            Self::MetadataTooLarge => "MetadataTooLarge",
            Self::InvalidXmlNodeValue => "InvalidXmlNodeValue",
            Self::PublicAccessNotPermitted => "PublicAccessNotPermitted",
            Self::InvalidMarker | Self::Name(InvalidName::Length) => "OutOfRangeInput",
            Self::Name(InvalidName::Characters) => "InvalidResourceName",
            Self::Range(RangeError::Malformed) => "InvalidHeaderValue",
            Self::Range(RangeError::BeyondTheEnd) => "InvalidRange",
            Self::AuthenticationFailed(_) => "AuthenticationFailed",
            Self::Refused(refusal) => refusal.code(),
            Self::WrittenMeanwhile => "OperationTimedOut",
            Self::Store(_) => "ServerBusy",
        }
    }
}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict => Self::WrittenMeanwhile,
            CommitError::CounterLimit { .. } => Self::RequestEntityTooManyBlocks,
            CommitError::Store(error) => Self::Store(error),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl MayConflict for Error {
    fn is_conflict(&self) -> bool {
        *self == Self::WrittenMeanwhile
    }
}
