//! Refusals on the wire: XML with a code that the header `x-ms-error-code` repeats, since clients read it there on a HEAD.

use base::Timestamp;
use storage::Error;
use storage::sas::Refusal as TokenRefusal;

use super::xml::Xml;
use crate::router::{Fault, lacks};
use crate::wire::{Head, NO_CREDENTIALS, Refused, Response};

pub(super) enum Refusal {
    Storage(Error),
    Fault(Fault),
    NotBuilt(&'static str),
    NoCredentials,
    UnknownAccount,
    /// A header is not as it must be, or is missing.
    Header(&'static str),
    MissingHeader(&'static str),
    Parameter(&'static str),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Storage(error)
    }
}

impl From<storage::InvalidName> for Refusal {
    fn from(error: storage::InvalidName) -> Self {
        Self::Storage(error.into())
    }
}

impl From<storage::block_list::InvalidBlockList> for Refusal {
    fn from(error: storage::block_list::InvalidBlockList) -> Self {
        Self::Storage(error.into())
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::UnknownInstance => Self::UnknownAccount,
            Fault::NotBuilt { operation } => Self::NotBuilt(operation),
            Fault::BodyTooLarge { .. } => Self::Storage(Error::RequestBodyTooLarge),
            other => Self::Fault(other),
        }
    }
}

impl Refusal {
    pub(super) fn answer(&self, head: &Head, now: Timestamp) -> Response {
        let status = self.status();
        if status == 304 {
            return Response::new(304).header("x-ms-error-code", self.code());
        }
        let mut xml = Xml::new();
        let (id, time) = (head.request_id, now.iso7());
        xml.within("Error", |xml| {
            xml.text("Code", self.code());
            xml.text("Message", &format!("{}\nRequestId:{id}\nTime:{time}", self.message()));
            xml.maybe("AuthenticationErrorDetail", self.detail().as_deref());
        });
        let response = Response::bytes(status, "application/xml", xml.end());
        let response = response.header("x-ms-error-code", self.code());
        match (self, self.kept_out()) {
            (Self::NoCredentials, Some(refused)) => {
                response.header("www-authenticate", "SharedKey").refusing(refused)
            }
            (_, Some(refused)) => response.refusing(refused),
            (_, None) => response,
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::Storage(error) => status(error),
            Self::Fault(Fault::MethodNotAllowed) => 405,
            Self::Fault(_) | Self::Header(_) | Self::MissingHeader(_) | Self::Parameter(_) => 400,
            Self::NotBuilt(_) => 501,
            Self::NoCredentials => 401,
            Self::UnknownAccount => 404,
        }
    }

    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Storage(error) => error.code(),
            Self::Fault(Fault::MethodNotAllowed) => "UnsupportedHttpVerb",
            Self::Fault(Fault::UnknownPath) | Self::Parameter(_) => "InvalidQueryParameterValue",
            Self::Fault(Fault::BodyIncomplete) => "IncompleteBody",
            Self::Fault(_) => "InvalidUri",
            Self::NotBuilt(_) => "NotImplemented",
            Self::NoCredentials => "NoAuthenticationInformation",
            Self::UnknownAccount => "ResourceNotFound",
            Self::Header(_) => "InvalidHeaderValue",
            Self::MissingHeader(_) => "MissingRequiredHeader",
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Storage(error) => error.to_string(),
            Self::Fault(Fault::Malformed(malformed)) => malformed.text().to_owned(),
            Self::Fault(Fault::BodyIncomplete) => "The request body ended before it was complete.".to_owned(),
            Self::Fault(Fault::MethodNotAllowed) => {
                "The resource doesn't support the specified HTTP verb.".to_owned()
            }
            Self::Fault(_) => "Value for one of the query parameters specified in the request URI is invalid.".to_owned(),
            Self::Parameter(name) => format!("The value of the query parameter '{name}' is invalid."),
            Self::NotBuilt(operation) => lacks(operation),
            Self::NoCredentials => {
                "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.".to_owned()
            }
            Self::UnknownAccount => "There is no storage account of this name.".to_owned(),
            Self::Header(name) => {
                format!("The value for one of the HTTP headers is not in the correct format: {name}.")
            }
            Self::MissingHeader(name) => {
                format!("An HTTP header that's mandatory for this request is not specified: {name}.")
            }
        }
    }

    /// What was wrong with a signature.
    fn detail(&self) -> Option<String> {
        match self {
            Self::Storage(Error::AuthenticationFailed(why)) => Some((*why).to_owned()),
            Self::Storage(Error::Refused(refusal)) => Some(refusal.to_string()),
            _ => None,
        }
    }

    fn kept_out(&self) -> Option<Refused> {
        Some(Refused::stranger(match self {
            Self::NoCredentials => NO_CREDENTIALS,
            Self::Storage(Error::AuthenticationFailed(why)) => why,
            Self::Storage(Error::Refused(TokenRefusal::Permission)) => "its token does not permit this",
            Self::Storage(Error::Refused(TokenRefusal::Time)) => "its token is not valid now",
            Self::Storage(Error::Refused(TokenRefusal::Signature)) => {
                "its token is signed with another key, or for something else"
            }
            Self::Storage(Error::Refused(_)) => "its token is not for this",
            _ => return None,
        }))
    }
}

fn status(error: &Error) -> u16 {
    match error {
        Error::ContainerNotFound | Error::BlobNotFound => 404,
        Error::ContainerAlreadyExists
        | Error::BlobAlreadyExists
        | Error::InvalidBlobType
        | Error::BlockCountExceedsLimit
        | Error::RequestEntityTooManyBlocks
        | Error::PublicAccessNotPermitted => 409,
        Error::NotModified => 304,
        Error::ConditionNotMet | Error::AppendPositionConditionNotMet | Error::MaxBlobSizeConditionNotMet => {
            412
        }
        Error::InvalidBlockList
        | Error::BlockList(_)
        | Error::InvalidBlobOrBlock
        | Error::Md5Mismatch
        | Error::InvalidMetadata
        | Error::MetadataTooLarge
        | Error::InvalidXmlNodeValue
        | Error::InvalidMarker
        | Error::Name(_)
        | Error::Range(storage::RangeError::Malformed) => 400,
        Error::Range(storage::RangeError::BeyondTheEnd) => 416,
        Error::RequestBodyTooLarge => 413,
        Error::AuthenticationFailed(_) | Error::Refused(_) => 403,
        Error::WrittenMeanwhile => 500,
        Error::Store(_) => 503,
    }
}
