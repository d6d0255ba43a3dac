//! Every table of the store, one line of prose and one constant each. A domain crate adds its noun here and to [`ALL`].
//! Once released, a table changes only by a numbered step in `sqlite/migrate.rs`.

use std::borrow::Cow;

/// A noun's table: key columns, extra indexed columns (nullable text), and `doc` and `revision`, which every table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    pub name: &'static str,
    /// The first is the instance id, or a fixed realm.
    pub keys: &'static [&'static str],
    /// Each gets an index (first key column, column, remaining key columns), unless [`QUERIED`] spells out another.
    pub columns: &'static [&'static str],
}

/// A table that compiled queries reach. Its documents are kept in the engine's binary form of JSON, which queries look into
/// without parsing; they come out as the text that went in.
pub(crate) struct Queried {
    pub(crate) table: &'static Table,
    pub(crate) indexes: &'static [Index],
    /// The member of a record that holds the document; none where the record is the document.
    pub(crate) document: Option<&'static str>,
    /// About how many rows a large instance has, for the engine's planner.
    pub(crate) rows: u64,
    /// About how many rows share the first key column, the first two, and so on.
    pub(crate) key_shared: &'static [u64],
    /// Whether documents lie beside their keys. For small ones: a write then touches one tree less.
    pub(crate) is_clustered: bool,
}

/// The index of an extra column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Index {
    /// The column by which it finds.
    pub(crate) column: &'static str,
    /// In their order.
    pub(crate) columns: Cow<'static, [&'static str]>,
    /// About how many rows share the first column, the first two, and so on, where that is known.
    pub(crate) shared: &'static [u64],
}

/// A relationship's indexes hold everything that a walk over the graph needs, so that hops never touch a document.
pub(crate) const QUERIED: &[Queried] = &[
    Queried {
        table: &DIGITAL_TWIN,
        indexes: &[Index {
            column: "model",
            columns: Cow::Borrowed(&["instance", "model", "id"]),
            shared: &[1_000_000, 20_000, 1],
        }],
        document: Some("document"),
        rows: 1_000_000,
        key_shared: &[1_000_000, 1],
        is_clustered: false,
    },
    Queried {
        table: &RELATIONSHIP,
        indexes: &[
            Index {
                column: "name",
                columns: Cow::Borrowed(&["instance", "source", "name", "id", "target"]),
                shared: &[1_500_000, 10, 2, 1, 1],
            },
            Index {
                column: "target",
                columns: Cow::Borrowed(&["instance", "target", "name", "source", "id"]),
                shared: &[1_500_000, 3, 2, 1, 1],
            },
        ],
        document: Some("document"),
        rows: 1_500_000,
        key_shared: &[1_500_000, 10, 1],
        is_clustered: true,
    },
    Queried {
        table: &DEVICE_TWIN,
        indexes: &[],
        document: None,
        rows: 1_000_000,
        key_shared: &[1_000_000, 1_000_000, 1, 1],
        is_clustered: false,
    },
];

impl Table {
    pub(crate) fn queried(&self) -> Option<&'static Queried> {
        QUERIED.iter().find(|queried| queried.table.name == self.name)
    }

    pub(crate) fn indexes(&self) -> Vec<Index> {
        if let Some(queried) = self.queried() {
            return queried.indexes.to_vec();
        }
        let index = |column: &&'static str| {
            let columns = [self.keys[0], column].into_iter().chain(self.keys[1..].iter().copied()).collect();
            Index { column, columns, shared: &[] }
        };
        self.columns.iter().map(index).collect()
    }

    /// The columns by which records that share a value of `column` are ordered, under a prefix of so many key parts.
    pub(crate) fn order_of(&self, column: &str, prefix: usize) -> Vec<&'static str> {
        let index = self.indexes().into_iter().find(|index| index.column == column);
        let columns = index.map(|index| index.columns.into_owned()).unwrap_or_default();
        let is_fixed = |name: &&str| *name == column || self.keys[..prefix].contains(name);
        columns.into_iter().filter(|name| !is_fixed(name)).collect()
    }
}

/// key: instance, endpoint name · value: where routed events go · replaced by Resource Manager.
pub const ENDPOINT: Table = Table { name: "endpoint", keys: &["instance", "name"], columns: &[] };

/// key: instance, endpoint name, outbox id as 20 digits, route id · value: an event that waits for its endpoint · written once,
/// then removed.
pub const PARKED_EVENT: Table =
    Table { name: "parked_event", keys: &["instance", "endpoint", "outbox_id", "route"], columns: &[] };

/// key: instance · value: an Event Hubs namespace with its event hubs and the rules of both · replaced by its owner.
pub const EVENT_HUB_NAMESPACE: Table =
    Table { name: "event_hub_namespace", keys: &["instance"], columns: &[] };

/// key: instance, name · value: partitions and retention of an event stream · replaced by whoever owns the instance.
pub const EVENT_STREAM: Table = Table { name: "event_stream", keys: &["instance", "name"], columns: &[] };

/// key: realm · value: the one tenant, on an embedded engine with its token signing key · written once.
pub const TENANT: Table = Table { name: "tenant", keys: &["realm"], columns: &[] };

/// key: realm, name · value: a secret of the server's own (authorities, admin key, token signing key), sealed or clear · written
/// once, then replaced when it is sealed. Empty on an embedded engine, beside which files keep them.
pub const SERVER_SECRET: Table = Table { name: "server_secret", keys: &["realm", "name"], columns: &[] };

/// key: realm, object id · value: an application with its secrets, or a resource's managed identity · replaced by its owner.
pub const SERVICE_PRINCIPAL: Table =
    Table { name: "service_principal", keys: &["realm", "object_id"], columns: &["app_id", "display_name"] };

/// key: realm, principal, scope, role · value: who gave it and when, and the GUID that names it · replaced by a new
/// description, removed.
pub const ROLE_ASSIGNMENT: Table =
    Table { name: "role_assignment", keys: &["realm", "principal_id", "scope", "role_id"], columns: &["id"] };

/// key: realm, GUID of a role assignment · value: that it is taken · written and removed with the assignment.
pub const ROLE_ASSIGNMENT_NAME: Table =
    Table { name: "role_assignment_name", keys: &["realm", "id"], columns: &[] };

/// key: table of its settings, instance · value: that the instance has ended and is never started again · removed by the next
/// start, once nothing of it is left.
pub const ENDED_INSTANCE: Table =
    Table { name: "ended_instance", keys: &["settings_table", "instance"], columns: &[] };

/// key: instance · value: settings of a Digital Twins instance · replaced by the resource manager.
pub const DIGITAL_TWINS_INSTANCE: Table =
    Table { name: "digital_twins_instance", keys: &["instance"], columns: &[] };

/// key: instance · value: the last upload time and the count of all its models · replaced by every change of a model.
pub const MODEL_SET: Table = Table { name: "model_set", keys: &["instance"], columns: &[] };

/// key: instance, model id · value: what lists show of a model, and what it extends and contains · replaced or removed by its
/// owner.
pub const MODEL: Table = Table { name: "model", keys: &["instance", "dtmi"], columns: &[] };

/// key: as MODEL · value: the definition as it was uploaded · written once, then removed with its model.
pub const MODEL_DEFINITION: Table =
    Table { name: "model_definition", keys: &["instance", "dtmi"], columns: &[] };

/// key: instance, `$dtId` · value: `document`, the twin as Azure writes it and queries address it · replaced by every change.
pub const DIGITAL_TWIN: Table =
    Table { name: "digital_twin", keys: &["instance", "id"], columns: &["model"] };

/// key: instance, `$sourceId`, `$relationshipId` · value: `document`, the relationship as Azure writes it and queries address
/// it · replaced by every change. Both of its twins are there as long as it is: queries rely on it.
pub const RELATIONSHIP: Table =
    Table { name: "relationship", keys: &["instance", "source", "id"], columns: &["target", "name"] };

/// key: instance, event route id · value: endpoint name and filter · replaced by its owner.
pub const EVENT_ROUTE: Table = Table { name: "event_route", keys: &["instance", "id"], columns: &[] };

/// key: instance · value: a hub's settings and policies · replaced by Resource Manager.
pub const HUB: Table = Table { name: "hub", keys: &["instance"], columns: &[] };

/// key: instance, `device` or `module`, device id, module id or nothing · value: an identity of a hub's registry · replaced.
pub const IDENTITY: Table =
    Table { name: "identity", keys: &["instance", "kind", "device_id", "module_id"], columns: &[] };

/// key: as IDENTITY · value: tags, desired and reported properties, named as queries name them · replaced.
pub const DEVICE_TWIN: Table =
    Table { name: "device_twin", keys: &["instance", "kind", "device_id", "module_id"], columns: &[] };

/// key: as IDENTITY · value: connection state and last activity · put every few seconds while they change.
pub const ACTIVITY: Table =
    Table { name: "activity", keys: &["instance", "kind", "device_id", "module_id"], columns: &[] };

/// key: as IDENTITY · value: what a client subscribed to in a session that outlives its connection · put.
pub const SUBSCRIPTION: Table =
    Table { name: "subscription", keys: &["instance", "kind", "device_id", "module_id"], columns: &[] };

/// key: instance, device id · value: how many cloud-to-device messages wait for a device, and the number of the last · written
/// with every change of one of them.
pub const DEVICE_QUEUE: Table =
    Table { name: "device_queue", keys: &["instance", "device_id"], columns: &[] };

/// key: instance, device id, number as 20 digits · value: a message with its body, and who holds it · replaced when it is taken
/// or given back, then removed.
pub const QUEUED_MESSAGE: Table =
    Table { name: "queued_message", keys: &["instance", "device_id", "sequence"], columns: &[] };

/// key: instance, ticks as 20 digits, device id, number of the message · value: how a message ended · written once, then removed.
pub const FEEDBACK: Table =
    Table { name: "feedback", keys: &["instance", "enqueued", "device_id", "sequence"], columns: &[] };

/// key: instance, number as 20 digits · value: feedback that was given out together, and who holds it · replaced, then removed.
pub const FEEDBACK_BATCH: Table =
    Table { name: "feedback_batch", keys: &["instance", "number"], columns: &[] };

/// key: instance, device id · value: the uploads of files that a device has under way, and the last ones whose time is over · replaced
/// by every change of one, removed with the last.
pub const FILE_UPLOADS: Table =
    Table { name: "file_uploads", keys: &["instance", "device_id"], columns: &[] };

/// key: as FEEDBACK, with a number of the upload · value: a file that was uploaded · written once, then removed.
pub const FILE_NOTIFICATION: Table = Table {
    name: "file_notification",
    keys: &["instance", "enqueued", "device_id", "sequence"],
    columns: &[],
};

/// key: as `FEEDBACK_BATCH` · value: a file notification that was given out, and who holds it · replaced, then removed.
pub const FILE_NOTIFICATION_GIVEN: Table =
    Table { name: "file_notification_given", keys: &["instance", "number"], columns: &[] };

/// key: instance, job id · value: a job of the hub and how far it has come · replaced by every step of it, removed a month after its
/// end.
pub const JOB: Table = Table { name: "job", keys: &["instance", "job_id"], columns: &[] };

/// key: instance, job id, device id · value: what a job did to a device · replaced once, when a method has ended. `under_way` is the
/// job's id until then.
pub const DEVICE_JOB: Table =
    Table { name: "device_job", keys: &["instance", "job_id", "device_id"], columns: &["under_way"] };

/// key: instance, job id · value: an import or export of the hub's registry and how far it has come · as JOB.
pub const REGISTRY_JOB: Table = Table { name: "registry_job", keys: &["instance", "job_id"], columns: &[] };

/// key: instance, configuration id · value: a configuration of a hub · replaced by its owner.
pub const CONFIGURATION: Table =
    Table { name: "configuration", keys: &["instance", "configuration_id"], columns: &[] };

/// key: as CONFIGURATION · value: what its metrics were when they were counted last · put.
pub const CONFIGURATION_METRICS: Table =
    Table { name: "configuration_metrics", keys: &["instance", "configuration_id"], columns: &[] };

/// key: instance · value: how far a walk over all twins has come behind a change of a configuration · replaced by its steps.
pub const CONFIGURATION_WALK: Table = Table { name: "configuration_walk", keys: &["instance"], columns: &[] };

/// key: "due", ticks as 20 digits, instance, kind, what it is of · value: work of a hub at a time to come · written once, then
/// removed.
pub const DUE: Table =
    Table { name: "due", keys: &["realm", "at", "instance", "kind", "subject"], columns: &[] };

/// key: subscription, group, type, parent name or empty, name, all in lower case · value: a resource of Resource Manager ·
/// replaced by every write to it.
pub const RESOURCE: Table = Table {
    name: "resource",
    keys: &["subscription", "resource_group", "type", "parent", "name"],
    columns: &["resource_type"],
};

/// key: "names", type, name · value: the resource that holds a name which is unique beyond its group · never changed.
pub const CLAIMED_NAME: Table =
    Table { name: "claimed_name", keys: &["realm", "resource_type", "name"], columns: &[] };

/// key: "operations", id · value: a long-running operation and what it has left to do · replaced once, when it ends.
pub const OPERATION: Table = Table { name: "operation", keys: &["realm", "id"], columns: &["state"] };

/// key: subscription, name · value: a resource group · replaced by every write to it.
pub const RESOURCE_GROUP: Table =
    Table { name: "resource_group", keys: &["subscription", "name"], columns: &[] };

/// key: "subscriptions", id · value: an Azure subscription · never changed.
pub const AZURE_SUBSCRIPTION: Table =
    Table { name: "azure_subscription", keys: &["realm", "id"], columns: &[] };

/// key: subscription, namespace · value: whether it may be used · replaced.
pub const PROVIDER_REGISTRATION: Table =
    Table { name: "provider_registration", keys: &["subscription", "namespace"], columns: &[] };

/// key: "`first_start`" · value: when the default resources were made in full · written once.
pub const FIRST_START: Table = Table { name: "first_start", keys: &["realm"], columns: &[] };
/// key: instance · value: settings of a provisioning service · replaced by the resource manager.
pub const PROVISIONING_SERVICE: Table =
    Table { name: "provisioning_service", keys: &["instance"], columns: &[] };

/// key: instance, `individual` or `group`, id in lower case · value: an enrollment with its secrets · replaced by its owner.
pub const ENROLLMENT: Table = Table { name: "enrollment", keys: &["instance", "kind", "id"], columns: &[] };

/// key: instance, registration id in lower case · value: what became of a device's registration · replaced by the next one.
pub const REGISTRATION: Table =
    Table { name: "registration", keys: &["instance", "id"], columns: &["enrollment_group", "pending"] };

/// key: instance · value: a storage account with its keys · replaced when a key is.
pub const STORAGE_ACCOUNT: Table = Table { name: "storage_account", keys: &["instance"], columns: &[] };

/// key: instance, container name · value: a container with its id, metadata and policies · replaced.
pub const BLOB_CONTAINER: Table = Table { name: "blob_container", keys: &["instance", "name"], columns: &[] };

/// key: instance, container id, blob name · value: a blob without its bytes · replaced by every write to it.
pub const BLOB: Table = Table { name: "blob", keys: &["instance", "container", "name"], columns: &[] };

/// key: instance, content id, number as 6 digits · value: blocks and the chunks that they consist of · written once, but for the last
/// of an append blob, which is replaced by every append.
pub const BLOB_CONTENT: Table =
    Table { name: "blob_content", keys: &["instance", "content", "number"], columns: &[] };

/// key: as BLOB · value: the id under which blocks wait for being committed · written once, then removed.
pub const BLOB_UPLOAD: Table =
    Table { name: "blob_upload", keys: &["instance", "container", "name"], columns: &[] };

/// key: instance, upload id, block id · value: a block that waits, and its chunks · replaced, then removed.
pub const UNCOMMITTED_BLOCK: Table =
    Table { name: "uncommitted_block", keys: &["instance", "upload", "id"], columns: &[] };

/// key: "removals", ticks as 20 digits, instance, id · value: chunks that nothing names, or will name no more (ADR 17) · replaced once,
/// when it begins, then removed; or removed by what comes to name the chunks.
pub const BLOB_REMOVAL: Table =
    Table { name: "blob_removal", keys: &["realm", "at", "instance", "id"], columns: &[] };

/// For the contract suite alone.
#[cfg(test)]
pub(crate) const THING: Table =
    Table { name: "thing", keys: &["instance", "id", "part"], columns: &["color", "owner"] };

/// One of [`ALL`].
pub(crate) fn named(name: &str) -> &'static Table {
    ALL.iter().find(|table| table.name == name).expect("every table is listed in ALL")
}

pub const ALL: &[&Table] = &[
    &ENDPOINT,
    &PARKED_EVENT,
    &EVENT_HUB_NAMESPACE,
    &EVENT_STREAM,
    &TENANT,
    &SERVER_SECRET,
    &SERVICE_PRINCIPAL,
    &ROLE_ASSIGNMENT,
    &ROLE_ASSIGNMENT_NAME,
    &ENDED_INSTANCE,
    &DIGITAL_TWINS_INSTANCE,
    &MODEL_SET,
    &MODEL,
    &MODEL_DEFINITION,
    &DIGITAL_TWIN,
    &RELATIONSHIP,
    &EVENT_ROUTE,
    &HUB,
    &IDENTITY,
    &DEVICE_TWIN,
    &ACTIVITY,
    &SUBSCRIPTION,
    &DEVICE_QUEUE,
    &QUEUED_MESSAGE,
    &FEEDBACK,
    &FEEDBACK_BATCH,
    &FILE_UPLOADS,
    &FILE_NOTIFICATION,
    &FILE_NOTIFICATION_GIVEN,
    &JOB,
    &DEVICE_JOB,
    &REGISTRY_JOB,
    &CONFIGURATION,
    &CONFIGURATION_METRICS,
    &CONFIGURATION_WALK,
    &DUE,
    &RESOURCE,
    &CLAIMED_NAME,
    &OPERATION,
    &RESOURCE_GROUP,
    &AZURE_SUBSCRIPTION,
    &PROVIDER_REGISTRATION,
    &FIRST_START,
    &PROVISIONING_SERVICE,
    &ENROLLMENT,
    &REGISTRATION,
    &STORAGE_ACCOUNT,
    &BLOB_CONTAINER,
    &BLOB,
    &BLOB_CONTENT,
    &BLOB_UPLOAD,
    &UNCOMMITTED_BLOCK,
    &BLOB_REMOVAL,
    #[cfg(test)]
    &THING,
];
