//! The operations of a blob endpoint: which path, parameters and method mean which. What a request means does not depend on who asks.

use base::caps;

use crate::router::{Fault, RouteInfo};
use crate::wire::Head;

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Service,
    Container,
    Blob,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    ListContainers,
    ServiceProperties,
    AccountProperties,
    CreateContainer,
    GetContainer,
    DeleteContainer,
    SetContainerMetadata,
    GetPolicies,
    SetPolicies,
    ListBlobs,
    PutBlob,
    PutBlock,
    PutBlockList,
    GetBlockList,
    AppendBlock,
    GetBlob,
    GetBlobProperties,
    DeleteBlob,
    SetBlobMetadata,
    SetBlobProperties,
    /// This server does not have it.
    Nothing,
}

#[derive(Debug)]
pub(super) struct Operation {
    pub(super) what: What,
    pub(super) level: Level,
    pub(super) info: RouteInfo,
}

use Level::{Blob, Container, Service};

const fn operation(
    what: What,
    level: Level,
    method: &'static str,
    template: &'static str,
    operation: &'static str,
) -> Operation {
    let is_built = !matches!(what, What::Nothing);
    let body_bytes_max = caps::HTTP_BODY_BYTES_MAX;
    let info = RouteInfo { method, template, operation, permission: None, body_bytes_max, is_built };
    Operation { what, level, info }
}

#[rustfmt::skip]
pub(super) static OPERATIONS: &[Operation] = &[
    operation(What::ListContainers, Service, "GET", "/?comp=list", "Service_ListContainersSegment"),
    operation(What::ServiceProperties, Service, "GET", "/?restype=service&comp=properties", "Service_GetProperties"),
    operation(What::Nothing, Service, "PUT", "/?restype=service&comp=properties", "Service_SetProperties"),
    operation(What::Nothing, Service, "GET", "/?restype=service&comp=stats", "Service_GetStatistics"),
    operation(What::Nothing, Service, "POST", "/?restype=service&comp=userdelegationkey", "Service_GetUserDelegationKey"),
    operation(What::AccountProperties, Service, "GET", "/?restype=account&comp=properties", "Service_GetAccountInfo"),
    operation(What::Nothing, Service, "POST", "/?comp=batch", "Service_SubmitBatch"),
    operation(What::Nothing, Service, "GET", "/?comp=blobs", "Service_FilterBlobs"),
    operation(What::CreateContainer, Container, "PUT", "/{container}?restype=container", "Container_Create"),
    operation(What::GetContainer, Container, "GET", "/{container}?restype=container", "Container_GetProperties"),
    operation(What::GetContainer, Container, "HEAD", "/{container}?restype=container", "Container_GetProperties"),
    operation(What::DeleteContainer, Container, "DELETE", "/{container}?restype=container", "Container_Delete"),
    operation(What::GetContainer, Container, "GET", "/{container}?restype=container&comp=metadata", "Container_GetProperties"),
    operation(What::GetContainer, Container, "HEAD", "/{container}?restype=container&comp=metadata", "Container_GetProperties"),
    operation(What::SetContainerMetadata, Container, "PUT", "/{container}?restype=container&comp=metadata", "Container_SetMetadata"),
    operation(What::GetPolicies, Container, "GET", "/{container}?restype=container&comp=acl", "Container_GetAccessPolicy"),
    operation(What::GetPolicies, Container, "HEAD", "/{container}?restype=container&comp=acl", "Container_GetAccessPolicy"),
    operation(What::SetPolicies, Container, "PUT", "/{container}?restype=container&comp=acl", "Container_SetAccessPolicy"),
    operation(What::ListBlobs, Container, "GET", "/{container}?restype=container&comp=list", "Container_ListBlobFlatSegment"),
    operation(What::Nothing, Container, "PUT", "/{container}?restype=container&comp=lease", "Container_Lease"),
    operation(What::Nothing, Container, "PUT", "/{container}?restype=container&comp=undelete", "Container_Restore"),
    operation(What::Nothing, Container, "POST", "/{container}?restype=container&comp=batch", "Container_SubmitBatch"),
    operation(What::AccountProperties, Container, "GET", "/{container}?restype=account&comp=properties", "Container_GetAccountInfo"),
    operation(What::PutBlob, Blob, "PUT", "/{container}/{blob}", "Blob_Upload"),
    operation(What::GetBlob, Blob, "GET", "/{container}/{blob}", "Blob_Download"),
    operation(What::GetBlobProperties, Blob, "HEAD", "/{container}/{blob}", "Blob_GetProperties"),
    operation(What::DeleteBlob, Blob, "DELETE", "/{container}/{blob}", "Blob_Delete"),
    operation(What::PutBlock, Blob, "PUT", "/{container}/{blob}?comp=block", "BlockBlob_StageBlock"),
    operation(What::PutBlockList, Blob, "PUT", "/{container}/{blob}?comp=blocklist", "BlockBlob_CommitBlockList"),
    operation(What::GetBlockList, Blob, "GET", "/{container}/{blob}?comp=blocklist", "BlockBlob_GetBlockList"),
    operation(What::AppendBlock, Blob, "PUT", "/{container}/{blob}?comp=appendblock", "AppendBlob_AppendBlock"),
    operation(What::GetBlobProperties, Blob, "GET", "/{container}/{blob}?comp=metadata", "Blob_GetProperties"),
    operation(What::GetBlobProperties, Blob, "HEAD", "/{container}/{blob}?comp=metadata", "Blob_GetProperties"),
    operation(What::SetBlobMetadata, Blob, "PUT", "/{container}/{blob}?comp=metadata", "Blob_SetMetadata"),
    operation(What::SetBlobProperties, Blob, "PUT", "/{container}/{blob}?comp=properties", "Blob_SetHTTPHeaders"),
    operation(What::Nothing, Blob, "PUT", "/{container}/{blob}?comp=lease", "Blob_Lease"),
    operation(What::Nothing, Blob, "PUT", "/{container}/{blob}?comp=copy", "Blob_AbortCopyFromURL"),
    operation(What::Nothing, Blob, "PUT", "/{container}/{blob}?comp=snapshot", "Blob_CreateSnapshot"),
    operation(What::Nothing, Blob, "PUT", "/{container}/{blob}?comp=tier", "Blob_SetTier"),
    operation(What::Nothing, Blob, "PUT", "/{container}/{blob}?comp=undelete", "Blob_Undelete"),
    operation(What::Nothing, Blob, "PUT", "/{container}/{blob}?comp=tags", "Blob_SetTags"),
    operation(What::Nothing, Blob, "GET", "/{container}/{blob}?comp=tags", "Blob_GetTags"),
    operation(What::Nothing, Blob, "PUT", "/{container}/{blob}?comp=page", "PageBlob_UploadPages"),
    operation(What::Nothing, Blob, "GET", "/{container}/{blob}?comp=pagelist", "PageBlob_GetPageRanges"),
    operation(What::Nothing, Blob, "POST", "/{container}/{blob}?comp=query", "Blob_Query"),
    operation(What::AccountProperties, Blob, "GET", "/{container}/{blob}?restype=account&comp=properties", "Blob_GetAccountInfo"),
];

/// The place of what a request asks for.
pub(super) fn find(head: &Head, level: Level) -> Result<usize, Fault> {
    let asked = ["restype", "comp"].map(|name| head.query(name).unwrap_or_default().to_ascii_lowercase());
    let mut fault = Fault::UnknownPath;
    for (at, operation) in OPERATIONS.iter().enumerate().filter(|(_, operation)| operation.level == level) {
        if parameters(operation.info.template) != [asked[0].as_str(), asked[1].as_str()] {
            continue;
        }
        if operation.info.method == head.method.as_str() {
            return Ok(at);
        }
        fault = Fault::MethodNotAllowed;
    }
    Err(fault)
}

/// `restype` and `comp` of a template.
fn parameters(template: &'static str) -> [&'static str; 2] {
    let query = template.split_once('?').map_or("", |(_, query)| query);
    ["restype=", "comp="]
        .map(|name| query.split('&').find_map(|pair| pair.strip_prefix(name)).unwrap_or_default())
}
