//! Every limit of the product, named and with the page it comes from. A tier may replace one later; nothing else may.
//! Units are in the name. "ours" marks a bound that Azure does not publish.

// Identifiers and tokens.
/// Device, module and policy ids (IoT Hub developer guide, identity registry).
pub const ID_CHARACTERS_MAX: usize = 128;
/// ours: a SAS token with the longest ids, doubly escaped, stays well below.
pub const SAS_TOKEN_BYTES_MAX: usize = 4096;
/// `SharedAccessSignatureConstants.MaxClockSkew` of the C# SDK.
pub const SAS_CLOCK_SKEW_SECONDS: u64 = 300;
/// Storage accounts (Azure Resource Manager, naming rules of Microsoft.Storage).
pub const STORAGE_ACCOUNT_NAME_CHARACTERS_MAX: usize = 24;
/// Containers and blobs (Blob Storage, "Naming and referencing containers, blobs, and metadata"), segments too.
pub const CONTAINER_NAME_CHARACTERS_MAX: usize = 63;
pub const BLOB_NAME_CHARACTERS_MAX: usize = 1024;
pub const BLOB_NAME_SEGMENTS_MAX: usize = 254;
/// Blocks that a blob is committed from, and the id of one, decoded (Blob Storage, Put Block List).
pub const BLOCKS_OF_BLOB_MAX: usize = 50_000;
pub const BLOCK_ID_BYTES_MAX: usize = 64;
/// ours: the longest list of the longest ids with their tags is below 6 MB.
pub const BLOCK_LIST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What one request may bring (Blob Storage, scale targets): Put Blob, Put Block, Append Block.
pub const BLOB_BYTES_MAX: u64 = 5000 * 1024 * 1024;
pub const BLOCK_BYTES_MAX: u64 = 4000 * 1024 * 1024;
pub const APPEND_BLOCK_BYTES_MAX: u64 = 100 * 1024 * 1024;
/// Blocks of a blob that wait for being committed, and how long they do behind the last that came (Put Block).
pub const UNCOMMITTED_BLOCKS_MAX: i64 = 100_000;
pub const UNCOMMITTED_BLOCK_SECONDS: u64 = 7 * 24 * 3600;
/// Names and values of a blob's or container's metadata (Set Blob Metadata).
pub const BLOB_METADATA_BYTES_MAX: usize = 8 * 1024;
/// Stored access policies of a container, and the name of one (Set Container ACL).
pub const STORED_POLICIES_MAX: usize = 5;
pub const STORED_POLICY_ID_CHARACTERS_MAX: usize = 64;
/// Entries of one page of a list (List Blobs).
pub const BLOB_LIST_MAX: usize = 5000;
/// ours: bodies of blobs that are received at a time, each of which holds one chunk; others wait.
pub const UPLOADS_RECEIVED_MAX: usize = 32;
/// ours: how long the body of one request may take; what it wrote is removed then.
pub const UPLOAD_SECONDS_MAX: u64 = 24 * 3600;
/// ours: chunks that are noted in one commit before they are written.
pub const CHUNKS_NOTED_MAX: usize = 16;
/// ours: what a blob has let go of stays so long for those who read it, and for a backup that begins.
pub const BLOB_LET_GO_SECONDS: u64 = 3600;
/// ours: how often a server looks for bytes that nothing names, and how much it reads at once.
pub const BLOB_SWEEP_SECONDS: u64 = 60;
pub const BLOB_SWEEP_PAGE: usize = 100;
pub const BLOB_SWEEP_PIECES: usize = 8;
/// ours: blocks that one record lists, and what a read of a blob holds in memory.
pub const BLOCKS_OF_PIECE_MAX: usize = 1000;
pub const BLOB_READ_BYTES_MAX: usize = 1024 * 1024;
/// How far the date of a request signed with an account's key may lie from now (Storage, "Authorize with Shared Key").
pub const SHARED_KEY_SKEW_SECONDS: u64 = 900;
/// A live MQTT connection is cut this long after its token's expiry (IoT Hub troubleshooting guide).
pub const SAS_CONNECTION_GRACE_SECONDS: u64 = 600;
/// What Entra issues to applications without continuous access evaluation.
pub const ACCESS_TOKEN_SECONDS: u64 = 3599;
/// The usual allowance of token validators (arm-and-auth.md §4.3).
pub const TOKEN_CLOCK_SKEW_SECONDS: u64 = 300;
/// ours: wrong client secrets of an application from one address; the next ones wait.
pub const WRONG_SECRETS_PER_MINUTE_MAX: u64 = 10;
/// ours: applications and addresses whose wrong secrets are remembered.
pub const WRONG_SECRETS_GUESSERS_MAX: usize = 10_000;
/// ours: our own tokens have about 1.5 kB.
pub const BEARER_TOKEN_BYTES_MAX: usize = 12 * 1024;
/// ours: how long a caller's grants are kept when another node may have changed them.
pub const GRANTS_CACHED_SECONDS: u64 = 5;
/// ours: tokens that need not be verified again, at about 600 bytes each.
pub const VERIFIED_TOKENS_MAX: usize = 2000;
/// ours: callers whose grants are kept at the same time.
pub const CALLERS_CACHED_MAX: usize = 10_000;
/// Role assignments of a subscription (Azure RBAC limits).
pub const ROLE_ASSIGNMENTS_MAX: usize = 4000;
/// The longest description of a role assignment (Azure RBAC limits).
pub const ROLE_ASSIGNMENT_DESCRIPTION_CHARACTERS_MAX: usize = 1024;
/// Ids of one call of `directoryObjects/getByIds` (Microsoft Graph).
pub const DIRECTORY_OBJECT_IDS_MAX: usize = 1000;
/// ours: a token of a query carries the query's text, of at most `QUERY_CHARACTERS_MAX` characters.
pub const CONTINUATION_BYTES_MAX: usize = 64 * 1024;
/// ours: deeper JSON is refused before any recursive walk; `serde_json` itself stops at 128.
pub const JSON_DEPTH_MAX: usize = 100;
/// ours: so much of a name that cannot be read is repeated to whoever sent it.
pub const JSON_NAME_CHARACTERS_SHOWN_MAX: usize = 128;

// Before authentication (design.md §5).
pub const UNAUTHENTICATED_BYTES_MAX: usize = 16 * 1024;
pub const UNAUTHENTICATED_SECONDS_MAX: u64 = 10;
/// ours: requests of one connection whose answers have not been taken.
pub const UNAUTHENTICATED_REQUESTS_MAX: usize = 8;

// Who was refused (ours).
/// The log tells once in so many seconds that a device or caller was refused for a reason.
pub const REFUSAL_TOLD_SECONDS: u64 = 60;
/// Devices and callers of whom that is remembered.
pub const REFUSALS_TOLD_MAX: usize = 1024;
/// Refusals that `twinhub status` can show.
pub const REFUSALS_KEPT_MAX: usize = 64;
/// Reasons that are counted apart; the code has fewer.
pub const REFUSAL_REASONS_MAX: usize = 512;

// HTTP (ours, except where a service gives a smaller one).
pub const HTTP_BODY_BYTES_MAX: usize = 1024 * 1024;
/// POST /models: 250 models of 1 MB each would be published; ours bounds one call.
pub const MODELS_BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// ours: JSON values in one call of POST /models; one in 8 bytes of the largest call, where published models have one in 16.
pub const MODELS_VALUES_MAX: usize = 4_000_000;
/// ours: issues told of the models of one call; one broken document can have a million.
pub const MODEL_ISSUES_MAX: usize = 1000;
/// ours: of those, the ones that the answer tells.
pub const MODEL_ISSUES_TOLD_MAX: usize = 10;
/// ours: requests at a time whose body may be larger than `HTTP_BODY_BYTES_MAX`; others wait before theirs is read.
pub const LARGE_BODIES_MAX: usize = 4;
/// What a client may still send of a body whose request has been answered; more ends its connection.
pub const HTTP_DRAIN_BYTES_MAX: usize = 1024 * 1024;
pub const HTTP_DRAIN_SECONDS_MAX: u64 = 2;
pub const HTTP_HEADER_BYTES_MAX: u32 = 16 * 1024;
/// Requests of one HTTP/2 connection at a time; clients with more wait, or open another. Each costs the h2 crate a kilobyte that
/// the connection keeps, and a stranger may have as many as anyone.
pub const HTTP_STREAMS_MAX: u32 = 16;
pub const HTTP_CONNECTIONS_MAX: usize = 10_000;

// Device twins (IoT Hub developer guide, device twins).
pub const TWIN_TAGS_BYTES_MAX: usize = 8 * 1024;
pub const TWIN_DESIRED_BYTES_MAX: usize = 32 * 1024;
pub const TWIN_REPORTED_BYTES_MAX: usize = 32 * 1024;
/// ours: Azure's measure of a section counts empty lists and control characters as nothing. With them a section may take
/// this many times its limit, so that a device cannot store without end.
pub const TWIN_UNCOUNTED_FACTOR_MAX: usize = 8;
pub const TWIN_DEPTH_MAX: usize = 10;
pub const TWIN_KEY_BYTES_MAX: usize = 1024;
pub const TWIN_STRING_BYTES_MAX: usize = 4096;
pub const TWIN_INTEGER_MIN: i64 = -4_503_599_627_370_496;
pub const TWIN_INTEGER_MAX: i64 = 4_503_599_627_370_495;

// Hub (IoT Hub quotas and throttling).
pub const MODULES_PER_DEVICE_MAX: i64 = 50;
pub const DEVICES_PER_HUB_MAX: i64 = 1_000_000;
pub const DEVICE_LIST_MAX: usize = 1000;
/// Identities of one bulk call (`BulkRegistry_UpdateRegistry`).
pub const BULK_IDENTITIES_MAX: usize = 100;
pub const POLICIES_PER_HUB_MAX: usize = 16;
pub const STATUS_REASON_CHARACTERS_MAX: usize = 128;
pub const TELEMETRY_BYTES_MAX: usize = 256 * 1024;
pub const MESSAGE_ID_CHARACTERS_MAX: usize = 128;
/// ours; longer names do not fit the topics and link properties that carry them.
pub const METHOD_NAME_CHARACTERS_MAX: usize = 128;
/// Names of properties, components and commands (DTDL v2), and the levels of a property's objects.
pub const PLUG_AND_PLAY_NAME_CHARACTERS_MAX: usize = 64;
pub const PLUG_AND_PLAY_DEPTH_MAX: usize = 5;
pub const METHOD_PAYLOAD_BYTES_MAX: usize = 128 * 1024;
pub const METHOD_RESPONSE_SECONDS: std::ops::RangeInclusive<u64> = 5..=300;
pub const METHOD_RESPONSE_SECONDS_DEFAULT: u64 = 30;
pub const METHOD_CONNECT_SECONDS_MAX: u64 = 300;
/// ours: direct methods waiting for one device.
pub const METHODS_IN_FLIGHT_PER_DEVICE_MAX: usize = 10;
/// A cloud-to-device message with its properties (iothub-device.md §4.2), and how long one may wait at the most.
pub const CLOUD_TO_DEVICE_BYTES_MAX: usize = 64 * 1024;
pub const CLOUD_TO_DEVICE_TTL_SECONDS_MAX: u64 = 2 * 24 * 3600;
pub const CLOUD_TO_DEVICE_TTL_SECONDS_MIN: u64 = 60;
pub const CLOUD_TO_DEVICE_LOCK_SECONDS: u64 = 60;
/// Messages that wait for one device: the service's number, and what a setting may raise it to (ours).
pub const CLOUD_TO_DEVICE_QUEUE_DEFAULT: u32 = 50;
pub const CLOUD_TO_DEVICE_QUEUE_MAX: usize = 1000;
/// ours: messages that a connection has under way.
pub const CLOUD_TO_DEVICE_WINDOW: usize = 16;
/// Records that one batch of feedback carries (iothub-service.md §7.4).
pub const FEEDBACK_BATCH_MAX: usize = 64;
/// ours: notices of one hub and kind (feedback, file notifications) that nobody has fetched; what comes then is lost.
pub const NOTICES_WAITING_MAX: i64 = 100_000;
/// ours: notices that expire within the same while are dropped together.
pub const NOTICES_EXPIRY_STEP_SECONDS: u64 = 60;
/// File uploads (iothub-device.md §7): a blob's name as a device gives it, and how many of one device may be under way.
pub const FILE_NAME_CHARACTERS_MAX: usize = 1024;
pub const FILE_UPLOADS_ACTIVE_MAX: usize = 10;
/// ours: uploads of one device whose time is over, by which what comes too late is told from what never was.
pub const FILE_UPLOADS_OVER_MAX: usize = 10;
/// How long a device may be given to upload a file (IoT Hub, "Configure file upload settings").
pub const FILE_UPLOAD_SECONDS_MIN: u64 = 60;
pub const FILE_UPLOAD_SECONDS_MAX: u64 = 24 * 3600;
/// ours: how often a server looks for work whose time has come, and how much it reads at once.
pub const DUE_POLL_SECONDS: u64 = 5;
pub const DUE_PAGE: usize = 100;
/// Scheduled jobs (iothub-service.md §8): how far ahead one may begin, how long it may take unless it says so, and how long it is kept.
pub const JOB_ID_CHARACTERS_MAX: usize = 64;
pub const JOB_START_SECONDS_MAX: u64 = 168 * 3600;
pub const JOB_SECONDS_DEFAULT: u64 = 3600;
pub const JOB_KEPT_SECONDS: u64 = 30 * 24 * 3600;
/// Jobs that have not ended (S3), and, ours, those that are kept.
pub const JOBS_ACTIVE_MAX: i64 = 10;
pub const JOBS_KEPT_MAX: i64 = 10_000;
/// ours: twins that a job changes in one batch, and its methods under way at the same time.
pub const JOB_DEVICES_AT_ONCE: usize = 100;
pub const JOB_METHODS_AT_ONCE: usize = 10;
/// ours: a job whose house has ended goes on at another after about so long.
pub const JOB_LEASE_SECONDS: u64 = 30;
/// Import and export jobs of one hub that have not ended (iothub-service.md §9).
pub const REGISTRY_JOBS_ACTIVE_MAX: i64 = 1;
/// ours: identities that such a job reads or writes at the same time.
pub const REGISTRY_JOB_IDENTITIES_AT_ONCE: usize = 100;
/// ours: pages that it goes through before it notes how far it has come.
pub const REGISTRY_JOB_PAGES_MAX: usize = 100;
/// ours: what it writes to or reads from a container at once, and a line of a file that is imported.
pub const REGISTRY_JOB_BLOCK_BYTES: usize = 4 * 1024 * 1024;
pub const REGISTRY_JOB_LINE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// ours: so often in a row a container may not answer, each time about a lease later, before the job fails.
pub const REGISTRY_JOB_FAULTS_MAX: u32 = 10;
/// Consumer groups of one event hub, `$Default` among them, and the name of one (Event Hubs quotas; rules of `Microsoft.EventHub`).
pub const CONSUMER_GROUPS_MAX: usize = 20;
pub const CONSUMER_GROUP_NAME_CHARACTERS_MAX: usize = 50;
/// What a hub's section `routing` may hold (IoT Hub quotas, paid editions), and the name of a route or of an endpoint.
pub const ROUTING_ENDPOINTS_MAX: usize = 10;
pub const ROUTES_MAX: usize = 100;
pub const ENRICHMENTS_MAX: usize = 10;
pub const ROUTE_NAME_CHARACTERS_MAX: usize = 64;
/// ours: IP filter rules of one hub or provisioning service; every connection is held against them.
pub const IP_RULES_MAX: usize = 100;
/// Configurations of a hub (S1; iothub-service.md §13), and custom metrics of one.
pub const CONFIGURATION_ID_CHARACTERS_MAX: usize = 128;
pub const CONFIGURATIONS_MAX: i64 = 100;
pub const CONFIGURATION_METRICS_MAX: usize = 5;
/// ours: twins that a walk behind a change of a configuration looks at in one step, and steps without a change that are not written
/// down. A walk whose house has ended goes on at another after about so long.
pub const CONFIGURATION_TWINS_AT_ONCE: usize = 100;
pub const CONFIGURATION_PAGES_UNWRITTEN_MAX: usize = 16;
pub const CONFIGURATION_LEASE_SECONDS: u64 = 30;
/// ours: how often metrics of configurations are counted, beside once behind every change.
pub const CONFIGURATION_METRICS_SECONDS: u64 = 60;
/// Partitions of a new hub's event stream (S1 default).
pub const HUB_PARTITIONS_DEFAULT: u32 = 4;
pub const PARTITIONS_MAX: u32 = 32;
/// ours: commands waiting for one connection (desired notifications, method requests).
pub const SESSION_QUEUE_MAX: usize = 64;
/// ours: how often the owner of a connection is looked for, where it was taken over on the way.
pub const DELIVERY_TRIES_MAX: usize = 2;
/// ours: a node that cannot be reached is told of the end of a session again after that, and so often; by then its lease is over.
pub const CLOSE_RETRY_MS: u64 = 250;
pub const CLOSE_TRIES_MAX: usize = 240;
/// ours: a node whose lease was not prolonged for so long has lost its sessions (cluster.md §7).
pub const NODE_LEASE_SECONDS: u64 = 10;
pub const NODE_LEASE_RENEWED_SECONDS: u64 = 2;
/// ours: how long a node is gone when its row and the marks of its commits are forgotten; `bigint` for the database.
pub const NODE_GONE_SECONDS: i64 = 3600;
/// ours: sessions that begin or end and wait for the database.
pub const SESSION_CHANGES_WAITING_MAX: usize = 65_536;
/// ours: how often who waits for a device looks whether it has come to another node.
pub const LISTENER_LOOK_MS: u64 = 250;
/// ours: records of activity that one commit carries.
pub const ACTIVITY_FLUSH_PAGE: usize = 256;
/// ours: records that one read of a whole table takes at a time.
pub const SCAN_PAGE: usize = 500;
/// ours: so long it is kept in mind that an instance has ended, where another server may still be making it.
pub const ENDED_INSTANCE_KEPT_SECONDS: i64 = 3600;
/// ours: a client's filters stay well below; bounds one stored session.
pub const SUBSCRIPTION_BYTES_MAX: usize = 4 * 1024;
/// Length of a DTMI (DTDL v2, digital twin model identifier).
pub const MODEL_ID_CHARACTERS_MAX: usize = 2048;
/// ours: a conflict on one record is retried this often before the caller sees it.
pub const CONFLICT_RETRIES_MAX: usize = 64;
pub const CONFLICT_PAUSE_MILLIS_MAX: u64 = 16;

// MQTT (IoT Hub MQTT support; protocol gateway sources).
/// Largest packet: topic and properties beside 256 KiB of payload.
pub const MQTT_PACKET_BYTES_MAX: usize = TELEMETRY_BYTES_MAX + 16 * 1024;
/// The largest remaining length that four bytes can tell (MQTT 3.1.1, 2.2.3).
pub const MQTT_REMAINING_LENGTH_MAX: usize = 268_435_455;
/// Likewise at the provisioning service.
pub const MQTT_PROVISIONING_PACKET_BYTES_MAX: usize = PROVISIONING_MESSAGE_BYTES_MAX + 16 * 1024;
pub const MQTT_SUBSCRIPTIONS_MAX: usize = 5;
/// ours: the longest that covers anything stays below, and five of them fit a stored session.
pub const MQTT_FILTER_BYTES_MAX: usize = SUBSCRIPTION_BYTES_MAX / MQTT_SUBSCRIPTIONS_MAX;
pub const MQTT_KEEP_ALIVE_SECONDS_MAX: u64 = 1767;
pub const MQTT_OUTGOING_WINDOW: usize = 16;
/// ours: publishes of one connection that wait for their durable append.
pub const MQTT_INCOMING_WINDOW: usize = 256;
/// ours: bytes of those publishes, and of the answers that wait behind them.
pub const MQTT_INCOMING_WINDOW_BYTES: usize = 1024 * 1024;
/// ours: answers that a slow reader may leave unread before we stop reading from it.
pub const MQTT_OUTGOING_BYTES_MAX: usize = 64 * 1024;

// Provisioning (IoT DPS limits).
pub const ENROLLMENTS_MAX: i64 = 1_000_000;
/// Of groups that attest by certificates, and of those that attest by symmetric keys.
pub const ENROLLMENT_GROUPS_MAX: i64 = 100;
pub const REGISTRATIONS_MAX: i64 = 1_000_000;
/// ours: earlier operations of one registration that can still be polled.
pub const REGISTRATION_OPERATIONS_MAX: usize = 8;
/// Polls of one device within `REGISTRATION_POLLS_SECONDS`.
pub const REGISTRATION_POLLS_MAX: usize = 5;
pub const REGISTRATION_POLLS_SECONDS: u64 = 10;
/// ours: devices whose polls are counted at the same time.
pub const REGISTRATION_POLLING_DEVICES_MAX: usize = 20_000;
pub const LINKED_HUBS_MAX: usize = 50;
pub const CA_CERTIFICATES_MAX: usize = 25;
pub const CERTIFICATE_NAME_CHARACTERS_MAX: usize = 64;
pub const PROVISIONING_MESSAGE_BYTES_MAX: usize = 96 * 1024;
pub const BULK_ENROLLMENTS_MAX: usize = 10;
/// ours: the text of one certificate; with every extension in use it stays well below.
pub const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;
/// ours: a client's certificate with what it presents behind it; fewer are in use between a device and its root.
pub const CLIENT_CERTIFICATES_MAX: usize = 8;
/// ours: stored rows that one page of a query with a condition looks at; a page may hold fewer items than were asked for.
pub const QUERY_ROWS_MAX: usize = 10_000;
pub const QUERY_PAGE_DEFAULT: usize = 100;
pub const QUERY_PAGE_MAX: usize = 1000;

// Digital Twins (Azure Digital Twins service limits).
pub const MODELS_PER_CALL_MAX: usize = 250;
pub const MODELS_PER_INSTANCE_MAX: i64 = 10_000;
pub const MODEL_BYTES_MAX: usize = 1024 * 1024;
pub const MODEL_PAGE: usize = 100;
/// ours: definitions whose compiled models an instance keeps for its next request.
pub const MODELS_COMPILED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// ours: definitions that are read and compiled at a time, of the models that one request builds on.
pub const MODEL_DEFINITIONS_READ: usize = 100;
/// ours: text of uploads that is compiled at a time; others wait. Compiling takes up to 24 times as much memory as the text has
/// bytes (measured with 32 MB of the smallest elements; 4 times with comments of 400 bytes).
pub const MODEL_UPLOADS_COMPILED_BYTES_MAX: usize = MODELS_BODY_BYTES_MAX;
/// ours: definitions that one page of models holds; a page that would hold more ends with fewer models.
pub const MODEL_PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// ours: how many models one list may be asked the dependencies of.
pub const MODEL_DEPENDENCIES_FOR_MAX: usize = 250;
pub const DIGITAL_TWIN_ID_CHARACTERS_MAX: usize = 127;
pub const DIGITAL_TWIN_BYTES_MAX: usize = 32 * 1024;
pub const DIGITAL_TWIN_STRING_BYTES_MAX: usize = 4096;
pub const DIGITAL_TWIN_NAME_BYTES_MAX: usize = 1024;
/// ours: a `sourceTime` is kept as it was written, and a fraction may have any number of digits.
pub const SOURCE_TIME_BYTES_MAX: usize = 64;
pub const DIGITAL_TWINS_PER_INSTANCE_MAX: i64 = 2_000_000;
pub const RELATIONSHIPS_PER_TWIN_MAX: i64 = 50_000;
pub const RELATIONSHIP_PAGE: usize = 100;
pub const EVENT_ROUTES_MAX: usize = 6;
/// ours.
pub const EVENT_ROUTE_ID_CHARACTERS_MAX: usize = 128;
pub const ENDPOINTS_MAX: usize = 6;
pub const JSON_PATCH_OPERATIONS_MAX: usize = 1000;

// Query languages (Azure Digital Twins limits; IoT Hub developer guide).
pub const QUERY_CHARACTERS_MAX: usize = 8192;
pub const DIGITAL_TWINS_QUERY_CHARACTERS_MAX: usize = 8000;
pub const QUERY_TERMS_MAX: usize = 50;
pub const QUERY_IN_ITEMS_MAX: usize = 100;
pub const QUERY_JOINS_MAX: usize = 5;
/// ours: paths after GROUP BY, and after ORDER BY.
pub const QUERY_SORT_PATHS_MAX: usize = 10;
/// ours: groups that one query counts; they are in memory while it runs.
pub const QUERY_GROUPS_MAX: usize = 10_000;
/// A query ends after this long (digital-twins.md §1.8, `TimeoutError`).
pub const QUERY_SECONDS_MAX: u64 = 60;
/// ours: a query that held the write-ahead log for too long begins anew as often.
pub const QUERY_BEGINNINGS_MAX: usize = 2;
/// ours: a longer list of texts becomes one parameter, so that statements stay short and their number small.
pub const QUERY_TEXTS_LISTED_MAX: usize = 100;
/// ours: documents that one page of a query reads or answers; a page that would hold more ends with fewer rows.
pub const QUERY_PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// ours: queries that wait for one to end; more are refused.
pub const QUERIES_WAITING_MAX: usize = 1024;
/// ours: of those, one caller's in one instance.
pub const QUERIES_WAITING_PER_CALLER_MAX: usize = 256;
/// ours: in the engine's own instructions, a tenth to half a second; a query that takes more is a long one.
pub const QUERY_SHORT_INSTRUCTIONS_MAX: u64 = 2_000_000;
/// ours: the same in time, for an engine that does not count.
pub const QUERY_SHORT_MILLIS_MAX: u64 = 250;
/// ours: a longer statement is compiled for its query alone and not kept.
pub const QUERY_STATEMENT_KEPT_BYTES_MAX: usize = 4 * 1024;
/// ours: each is one more index to be kept at every write.
pub const DECLARED_PATHS_MAX: usize = 16;
/// The depth of a DTDL schema, which bounds a property's path.
pub const DECLARED_PATH_MEMBERS_MAX: usize = 5;
/// ours: five names of 64 characters, as DTDL allows them, would be no path that anyone queries.
pub const DECLARED_PATH_CHARACTERS_MAX: usize = 200;
/// ours: how much of a text an index of a declared path has where the engine's index rows are short (PostgreSQL: 2.7 kB).
pub const DECLARED_TEXT_CHARACTERS_MAX: usize = 256;
/// ours: the text and a continuation token, escaped.
pub const QUERY_BODY_BYTES_MAX: usize = 128 * 1024;
/// ours: nesting of parentheses and functions, so that no parser or evaluator recurses without end.
pub const EXPRESSION_DEPTH_MAX: usize = 64;

// Resource Manager.
pub const TAGS_MAX: usize = 50;
pub const TAG_KEY_CHARACTERS_MAX: usize = 512;
pub const TAG_VALUE_CHARACTERS_MAX: usize = 256;
/// The most that the setting for `Retry-After` of Resource Manager may say; clients sleep that long.
pub const RETRY_AFTER_SECONDS_MAX: u64 = 60;
pub const RESOURCE_PAGE: usize = 1000;
/// ours: private endpoint connections that one resource shows.
pub const PRIVATE_ENDPOINT_CONNECTIONS_MAX: usize = 50;
/// Event Hubs quotas: event hubs of a standard namespace, authorization rules of a namespace.
pub const EVENT_HUBS_PER_NAMESPACE_MAX: usize = 10;
pub const AUTHORIZATION_RULES_MAX: usize = 12;
/// Partitions of an event hub whose PUT names no number (Event Hubs REST reference).
pub const EVENT_HUB_PARTITIONS_DEFAULT: u32 = 4;
/// ours: a finished operation can be read this long.
pub const OPERATION_KEPT_SECONDS: u64 = 24 * 3600;

// Store (foundations.md A).
/// Batches that one commit carries at most.
pub const COMMIT_BATCHES_MAX: usize = 512;
/// ours: counts of records that the writer remembers, of about 100 bytes each; it counts again what it forgot.
pub const COUNTS_KEPT_MAX: usize = 50_000;
pub const COMMIT_QUEUE_MAX: usize = 4096;
pub const BATCH_OPERATIONS_MAX: usize = 10_000;
/// Threads for scans and queries, and as many connections for point reads.
pub const READERS: usize = 4;
/// Reads that wait for a reader thread.
pub const READ_QUEUE_MAX: usize = 1024;
/// Bytes of a blob are kept in pieces of at most so many (ADR 17), which one request holds in memory while it writes or reads one.
pub const CHUNK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Threads of the embedded engine that write and read chunks, and what may wait for one.
pub const CHUNK_THREADS: usize = 2;
pub const CHUNK_QUEUE_MAX: usize = 256;
/// Chunks that one step of removing an instance deletes in a database.
pub const CHUNKS_PURGED_MAX: i64 = 64;
/// Rows that one step of removing an instance deletes.
pub const PURGE_ROWS_MAX: usize = 1000;
/// The length of the write-ahead log of records while no query holds it.
pub const WAL_CHECKPOINT_BYTES: u64 = 64 * 1024 * 1024;
/// How long a restart of the log may hold the writer back while it waits for readers: reads of one record are over by then.
pub const WAL_READERS_WAIT_MILLIS_MAX: u64 = 20;
/// How long a commit waits for a checkpoint that restarts the log.
pub const WAL_WRITER_WAITS_SECONDS_MAX: u64 = 10;
/// How long the last checkpoint waits for readers; nobody writes any more.
pub const WAL_END_WAIT_SECONDS_MAX: u64 = 5;
/// Faults that a check of the records tells; a damaged tree can have thousands.
pub const RECORDS_FAULTS_SHOWN_MAX: usize = 20;
/// ours: how long the database may take to answer before its connection is given up.
pub const DATABASE_ANSWER_SECONDS_MAX: u64 = 5;
/// ours: how long a start waits for another server that changes the tables.
pub const DATABASE_CHANGE_SECONDS_MAX: u64 = 600;
/// ours: how often it is looked whether the database still keeps what it acknowledges.
pub const DATABASE_LOOK_SECONDS: u64 = 60;
/// ours: rows on their way from a directory to a database, so many bytes in one piece.
pub const MOVE_CHUNK_BYTES: usize = 256 * 1024;
/// ours: how long a move waits for events to be told before it gives up, and to be delivered before it moves them too.
pub const MOVE_TELLING_SECONDS_MAX: u64 = 60;
pub const MOVE_DELIVERY_SECONDS_MAX: u64 = 5;
/// ours: pieces that wait for the database.
pub const MOVE_CHUNKS_MAX: usize = 8;
/// ours: connections to the database for reads. With those for commits and streams about 15 a server.
pub const DATABASE_READERS: usize = 8;
/// ours: of those, the most that queries hold.
pub const DATABASE_QUERIES: usize = 6;
/// How often a group of commits is judged again after others were faster, before its batches go one by one (cluster.md §5.1).
pub const COMMIT_JUDGED_MAX: usize = 3;
/// ours: how often one of those.
pub const COMMIT_JUDGED_ALONE_MAX: usize = 16;
/// Connections that a server commits over, and so the groups that it has under way (cluster.md §5.1).
pub const COMMITTERS: i32 = 2;
/// What one group writes at most, but for a single batch that is larger; and what may wait (cluster.md §5.1, §10).
pub const COMMIT_GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;
pub const COMMIT_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// ours: how long the next of several hosts waits for the one before to answer as the primary.
pub const DATABASE_HOST_MILLIS: u64 = 250;
/// How long it is asked what became of a commit whose answer was lost (cluster.md §5.5), and the pause between questions.
pub const DATABASE_UNKNOWN_SECONDS_MAX: u64 = 20;
pub const DATABASE_PAUSE_MILLIS: u64 = 100;
/// ours: how long a read may take that counts what there is of an instance.
pub const DATABASE_COUNT_SECONDS_MAX: u64 = 30;
/// Lanes of the outbox (cluster.md §4). Rows that wait are in them: never change it without moving those.
pub const OUTBOX_LANES: u16 = 64;
/// Rows of one lane that one look takes at most, so that a lane of one key does not keep the others waiting; `bigint` for the database.
pub const OUTBOX_LANE_ROWS: i64 = 64;
/// ours: how long a lane stays a server's that does not say so again, and how often is looked for what other servers wrote.
pub const OUTBOX_LEASE_SECONDS: u64 = 10;
pub const OUTBOX_POLL_MILLIS: u64 = 1000;
/// ours: how often is looked for changes by other servers of what this one keeps in memory (cluster.md §7: within a second).
pub const CHANGES_POLL_MILLIS: u64 = 500;
/// ours: operations of Resource Manager are one server's that does not say so again for so long, and how often others ask.
pub const RECONCILER_LEASE_SECONDS: u64 = 10;
pub const RECONCILER_LOOK_MILLIS: u64 = 500;
/// What waits to be relayed in one transaction: the relay's own, and one for each endpoint that is delivered to.
pub const OUTBOX_ERRANDS_MAX: usize = 64;
/// Connections that appends to streams go over, what they take at once, and how often one is tried (cluster.md §6).
pub const STREAM_CONNECTIONS: usize = 4;
pub const STREAM_GROUP_REQUESTS_MAX: usize = 4096;
pub const STREAM_GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;
pub const STREAM_APPEND_TRIES_MAX: usize = 8;
/// One block holds at most (cluster.md §6).
pub const STREAM_BLOCK_BYTES_MAX: usize = 1024 * 1024;
pub const STREAM_BLOCK_RECORDS_MAX: u32 = 4096;
/// How often the ends of streams are asked for while somebody waits there (cluster.md §6).
pub const STREAM_POLL_MILLIS: u64 = 100;
pub const LOG_SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
pub const LOG_APPEND_QUEUE_MAX: usize = 8192;
/// What those appends hold in memory; messages have up to 256 KiB.
pub const LOG_APPEND_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
pub const LOG_GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;
pub const LOG_RECORD_BYTES_MAX: usize = 2 * 1024 * 1024;
pub const LOG_READ_BYTES_MAX: usize = 4 * 1024 * 1024;
pub const LOG_READ_RECORDS_MAX: usize = 10_000;
/// A stream's name, and a record's key.
pub const LOG_NAME_BYTES_MAX: usize = 1024;
/// Sources that append once, per partition.
pub const LOG_ORIGINS_MAX: usize = 64;
/// Sealed segments whose index is in memory (4 bytes per record).
pub const LOG_INDEXES_MAX: usize = 16;
/// From this much traffic on, the next segment's file is filled with zeros ahead.
pub const LOG_SPARE_AFTER_BYTES: usize = 1024 * 1024;
/// That file is so many times as large as what was appended since the start, up to a whole segment.
pub const LOG_SPARE_TRAFFIC_TIMES: usize = 4;
/// The disk has so many times as much free as that file takes; else a smaller one is made, or none.
pub const LOG_SPARE_FREE_TIMES: u64 = 4;
pub const LOG_SPARE_BYTES_MIN: u32 = 1024 * 1024;
/// Records that are forgotten give their space back within a segment that is kept, where so many bytes of them lie together.
pub const LOG_HOLE_BYTES_MIN: u32 = 64 * 1024;
pub const LOG_HOUSEKEEPING_MAX: usize = 1024;
/// Bytes whose checksum is tried while one damaged segment is searched for records that are whole.
pub const LOG_SALVAGE_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// Damaged places of one segment that are told apart; what follows counts as one.
pub const LOG_DAMAGED_PLACES_MAX: usize = 1000;

// Events.
pub const OUTBOX_CLAIM_MAX: usize = 500;
/// Rows that were relayed and wait for a commit to be deleted with; more make one.
pub const OUTBOX_DONE_MAX: usize = 1000;
pub const RELAY_RETRY_SECONDS_MAX: u64 = 60;
/// ours: events of one instance that wait to be relayed or delivered; with more, what would raise further ones is throttled.
pub const EVENTS_WAITING_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// ours: how often they are measured while any wait.
pub const EVENTS_MEASURED_SECONDS: u64 = 5;
/// An event that no endpoint took for so long is given up (Event Grid's retry schedule, which routed events follow).
pub const EVENT_WAITS_SECONDS_MAX: u64 = 24 * 3600;
/// ours: a try to deliver to another server.
pub const DELIVERY_SECONDS_MAX: u64 = 30;
/// ours: events of one delivery to another server.
pub const DELIVERY_EVENTS_MAX: usize = 100;
/// ours: a request to a storage account elsewhere with its answer, and those that are under way at the same time.
pub const BLOB_REQUEST_SECONDS_MAX: u64 = 30;
pub const BLOB_REQUESTS_MAX: usize = 64;
/// ours: how long a device waits while its hub looks at the blob that it uploaded.
pub const BLOB_LOOK_SECONDS_MAX: u64 = 5;
/// ours: what is taken of an answer of a storage account; larger blobs are read by ranges.
pub const BLOB_ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// ours: how often event streams forget what is older than their retention.
pub const STREAM_TRIM_SECONDS: u64 = 60;

// Time (ours).
/// A wall clock that moves further than this against the monotonic one was set: a step.
pub const CLOCK_STEP_SECONDS: u64 = 60;
/// So long a step must stand before stamps follow it.
pub const CLOCK_STEP_FOLLOWED_SECONDS: u64 = 60;
/// So long after a step nothing is forgotten because of its age.
pub const CLOCK_STEP_FORGETS_NOTHING_SECONDS: u64 = 3600;
/// How often the wall clock is looked at where nobody asks for the time.
pub const CLOCK_LOOK_SECONDS: u64 = 5;

// Supervision (ours).
/// The longest pause before a task that panicked is begun again.
pub const TASK_PAUSE_SECONDS_MAX: u64 = 60;
/// So long it must go well to count as recovered.
pub const TASK_RECOVERED_SECONDS: u64 = 30;
/// How often a disk that failed is tried where nobody writes.
pub const DISK_TRIED_SECONDS: u64 = 5;

// Server.
/// Lines of the server's log that wait for whoever reads stderr; more are lost, and counted.
pub const LOG_LINES_WAITING_MAX: usize = 4096;
/// Open files that connections leave to others, at least and at most; in between, an eighth of what the system allows.
pub const FILES_RESERVED_MIN: u64 = 64;
pub const FILES_RESERVED_MAX: u64 = 4096;
/// How often the log tells of connections that were refused or could not be accepted.
pub const REFUSALS_TOLD_SECONDS: u64 = 60;
/// Pieces of a backup, 256 KiB each, that wait for whoever fetches it.
pub const BACKUP_PIECES_MAX: usize = 8;
/// ours: texts in a backup are short.
pub const BACKUP_TEXT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// ours: polls of one operation of Resource Manager by our own client.
pub const CLIENT_OPERATION_POLLS_MAX: usize = 60;
/// ours: of what a service says that refuses outside of its envelope, shown to people.
pub const CLIENT_REFUSAL_CHARACTERS_MAX: usize = 300;
/// ours: names that a command shows of what is there, where it does not find the one that was asked for.
pub const CLIENT_NAMES_SHOWN_MAX: usize = 5;
/// ours: how long a token holds that a command makes for a device, unless told; what is copied in the morning works all day.
pub const CLIENT_SAS_SECONDS: u64 = 24 * 3600;
pub const CLIENT_SAS_SECONDS_MAX: u64 = 365 * 24 * 3600;
/// ours: polls of one registration by a device of the demo or of `twinhub simulate`.
pub const CLIENT_REGISTRATION_POLLS_MAX: u32 = 30;
/// ours: devices of `twinhub simulate`.
pub const SIMULATED_DEVICES_MAX: usize = 50_000;
/// ours: handshakes that simulated devices have under way at the same time.
pub const SIMULATED_HANDSHAKES_MAX: usize = 64;
/// ours: how often a simulated device tries to register.
pub const SIMULATED_REGISTRATIONS_MAX: u32 = 5;
/// ours: the longest pause between two attempts of a simulated device.
pub const SIMULATED_PAUSE_SECONDS_MAX: u64 = 16;
/// ours: messages of one simulated device that may wait for their acknowledgement; while they do it sends no more.
pub const SIMULATED_IN_FLIGHT_MAX: usize = 16;
/// ours: how long simulated devices wait at their end for what has not been acknowledged.
pub const SIMULATED_DRAIN_SECONDS_MAX: u64 = 5;
/// ours: how long a simulated device believes in a server that says nothing; one that is there answers pings.
pub const SIMULATED_SILENCE_SECONDS_MAX: u64 = 60;
/// ours: about eighteen minutes; longer latencies count as that.
pub const LATENCY_MICROSECONDS_MAX: u64 = 1 << 30;
/// ours: different reasons for failures that a simulation counts apart.
pub const SIMULATED_REASONS_MAX: usize = 24;
/// ours: names that `twinhub doctor` looks up; a server with more has them all right or all wrong.
pub const DOCTOR_NAMES_MAX: usize = 6;
/// ours: what it keeps of what a tool says.
pub const DOCTOR_TOOL_SAID_BYTES_MAX: u64 = 16 * 1024;
pub const DRAIN_SECONDS_MAX: u64 = 10;
/// ours: addresses that `twinhub run` tries before it makes do with the usual one.
pub const FREE_ADDRESSES_TRIED_MAX: usize = 16;
/// ours: a command that `twinhub run` has told to end is killed after that.
pub const COMMAND_END_SECONDS_MAX: u64 = 10;
/// ours: what a command left running is killed after that, once it was told to end.
pub const LEFT_RUNNING_MS_MAX: u64 = 2000;
/// ours: what a run that was killed left behind is removed by the next one, not before it is so old.
pub const ABANDONED_RUN_SECONDS_MIN: u64 = 60;
/// ours: a seed is held in memory as a whole.
pub const SEED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// ours: faults of a seed that are told at once.
pub const SEED_FAULTS_TOLD_MAX: usize = 20;
/// ours: how often `twinhub wait` looks.
pub const WAIT_POLL_MS: u64 = 50;
pub const ACTIVITY_FLUSH_SECONDS: u64 = 5;
/// Leaves that are kept of each kind of key.
pub const MINTED_CERTIFICATES_MAX: usize = 1024;
/// ours: addresses for which a TLS configuration is kept; more are made anew for each connection.
pub const TLS_CONFIGURATIONS_MAX: usize = 256;
/// ours: keys of RSA that could not be made are not tried again before.
pub const RSA_RETRY_SECONDS: u64 = 60;
/// ours: a server that was killed keeps the next one from its database so long.
pub const SOLE_SERVER_LEASE_SECONDS: u64 = 10;
/// ours: levels of lists and maps in one value of AMQP.
pub const AMQP_DEPTH_MAX: usize = 16;
/// ours: values in one frame or message of AMQP: thousands of properties, and a bound for what one byte each can cost.
pub const AMQP_VALUES_MAX: usize = 16 * 1024;
/// ours: transfers that a session takes before it says that it takes more; messages are bound by the credit of links.
pub const AMQP_SESSION_WINDOW: u32 = 2048;
/// ours: deliveries of a session in one direction whose outcome is open.
pub const AMQP_UNSETTLED_MAX: usize = 8192;
