//! The hub's door against a hub in memory: the exchanges of the specification to the byte, and every refusal of every operation.

mod access;
mod bulk;
mod cloud_to_device;
mod configurations;
mod device_messages;
mod digital_twins;
mod etags;
mod file_uploads;
mod fixture;
mod jobs;
mod limits;
mod methods;
mod queries;
mod registry;
mod registry_jobs;
mod routes;
mod twins;
